"""The Bookinfo programs as processes on loopback addresses, with no mesh between them."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar, web

from tests.kit.aio import run

BOOKINFO = Path(__file__).parents[2] / "examples" / "bookinfo"
ADDRESS = "127.0.0.9"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True, slots=True)
class Origin:
    address: str
    port: int

    def __str__(self) -> str:
        return f"http://{self.address}:{self.port}"

    def variables(self, service: str) -> dict[str, str]:
        """How other programs are told about it."""
        name = service.upper()
        return {f"{name}_HOSTNAME": self.address, f"{name}_SERVICE_PORT": str(self.port)}


def launch(service: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"services.{service}"],
        cwd=BOOKINFO,
        env={"PYTHONDONTWRITEBYTECODE": "1", "BIND_ADDRESS": ADDRESS, "PORT": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def origin_of(program: subprocess.Popen[str]) -> Origin:
    assert program.stdout
    line = program.stdout.readline()
    assert "listens on" in line, program.communicate()[1]
    return Origin(ADDRESS, int(line.split()[-1]))


@contextmanager
def running(service: str, **environment: str) -> Iterator[Origin]:
    with launch(service, **environment) as program:
        try:
            yield origin_of(program)
        finally:
            program.terminate()


def nobody() -> Origin:
    """Where nothing listens: the port was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return Origin("127.0.0.1", listening.getsockname()[1])


@asynccontextmanager
async def answering(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[Origin]:
    """A service of the test, in place of one of Bookinfo's."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address, port = runner.addresses[0][:2]
        yield Origin(address, port)
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    text: str
    json: Any = None


async def fetch(session: ClientSession, url: str, headers: Mapping[str, str] | None = None) -> Reply:
    async with session.get(url, headers=headers) as response:
        is_json = response.content_type == "application/json"
        return Reply(response.status, await response.text(), await response.json() if is_json else None)


def get(url: str, headers: Mapping[str, str] | None = None) -> Reply:
    async def scenario() -> Reply:
        async with ClientSession() as session:
            return await fetch(session, url, headers)

    return run(scenario())


def browser() -> ClientSession:
    return ClientSession(cookie_jar=CookieJar(unsafe=True))


@pytest.fixture(scope="module")
def pages() -> Iterator[Mapping[str, Origin]]:
    """A product page for each version of reviews."""
    with ExitStack() as stack:
        ratings = stack.enter_context(running("ratings")).variables("ratings")
        details = stack.enter_context(running("details")).variables("details")
        found = {}
        for version in ("v1", "v2", "v3"):
            about = {"SERVICE_VERSION": version, "POD_NAME": f"reviews-{version}-0"}
            reviews = stack.enter_context(running("reviews", **about, **ratings)).variables("reviews")
            found[version] = stack.enter_context(running("productpage", **details, **reviews, **ratings))
        yield found


@pytest.mark.parametrize(("version", "stars"), [("v1", None), ("v2", "4 of 5 black stars"), ("v3", "4 of 5 red stars")])
def test_the_page_shows_the_stars_of_the_version_that_answered(
    pages: Mapping[str, Origin], version: str, stars: str | None
) -> None:
    page = get(f"{pages[version]}/productpage?u=normal")

    assert page.status == 200
    assert "Jules Verne" in page.text
    assert "Kofi" in page.text
    assert f"reviews-{version}-0" in page.text
    assert (stars or "no stars") in page.text
    assert ("of 5" in page.text) is (stars is not None)


def test_the_page_needs_nothing_from_elsewhere(pages: Mapping[str, Origin]) -> None:
    page = get(f"{pages['v1']}/")
    style = get(f"{pages['v1']}/static/style.css")

    assert "<script" not in page.text
    assert "//" not in page.text.replace("<!doctype html>", "").replace("http://www.w3.org/2000/svg", "")
    assert style.status == 200
    assert "url(" not in style.text


def test_signing_in_lasts_until_signing_out(pages: Mapping[str, Origin]) -> None:
    async def scenario() -> None:
        async with browser() as session:
            async with session.post(f"{pages['v2']}/login", data={"username": "jason"}) as response:
                signed_in = await response.text()
            signed_out = await fetch(session, f"{pages['v2']}/logout")

        assert "Signed in as <strong>jason</strong>" in signed_in
        assert "Signed in" not in signed_out.text

    run(scenario())


@pytest.mark.parametrize("name", ["", "two words", "new\r\nline: x", "<b>", "x" * 41])
def test_a_name_that_cannot_stand_in_a_header_is_refused_politely(pages: Mapping[str, Origin], name: str) -> None:
    async def scenario() -> None:
        async with browser() as session:
            async with session.post(f"{pages['v1']}/login", data={"username": name}) as response:
                page = await response.text()

            assert response.status == 422
            assert 'role="alert"' in page
            assert "session" not in response.cookies

    run(scenario())


def test_the_page_remembers_who_wrote_the_reviews(pages: Mapping[str, Origin]) -> None:
    async def scenario() -> None:
        async with browser() as session:
            for version in ("v1", "v3", "v1"):
                page = await fetch(session, f"{pages[version]}/productpage")

            assert "2 × v1, 1 × v3" in page.text

    run(scenario())


def test_the_product_is_there_as_json_too(pages: Mapping[str, Origin]) -> None:
    products = f"{pages['v3']}/api/v1/products"

    listed, details, reviews, ratings, unknown = (
        get(products + path) for path in ("", "/0", "/0/reviews", "/0/ratings", "/7/reviews")
    )

    assert [product["id"] for product in listed.json] == [0]
    assert details.json["ISBN-13"] == "978-0000018731"
    assert [review["rating"]["color"] for review in reviews.json["reviews"]] == ["red", "red"]
    assert ratings.json == {"id": 0, "ratings": {"Ines": 5, "Kofi": 4}}
    assert unknown.status == 404


@pytest.mark.parametrize("service", ["details", "ratings", "reviews", "productpage"])
def test_every_service_says_that_it_is_healthy_and_ends_on_sigterm_at_once(service: str) -> None:
    async def scenario() -> None:
        with launch(service) as program:
            async with ClientSession() as session:
                health = await fetch(session, f"{origin_of(program)}/health")

                began = time.monotonic()
                program.send_signal(signal.SIGTERM)  # while our connection is kept alive
                _, complaints = program.communicate(timeout=10)

        assert health.json == {"status": f"{service} is healthy"}
        assert program.returncode == 0
        assert complaints == ""
        assert time.monotonic() - began < 3

    run(scenario())


def test_reviews_passes_on_the_trace_and_the_user_to_ratings_and_no_cookies() -> None:
    sent = {
        "traceparent": TRACEPARENT,
        "tracestate": "vendor=1",
        "x-request-id": "b5a1",
        "x-b3-traceid": "0af7651916cd43dd",
        "x-ot-span-context": "span",
        "end-user": "jason",
        "user-agent": "Nautilus/1.0",
    }

    received = run(_headers_at_ratings({**sent, "cookie": "session=x", "authorization": "Bearer x"}))

    assert {name: received.get(name) for name in sent} == sent
    assert "cookie" not in received
    assert "authorization" not in received


async def _headers_at_ratings(headers: Mapping[str, str]) -> Mapping[str, str]:
    received: dict[str, str] = {}

    async def ratings(request: web.Request) -> web.Response:
        received.update((name.lower(), value) for name, value in request.headers.items())
        return web.json_response({"id": 0, "ratings": {}})

    async with answering(ratings) as origin, ClientSession() as session:
        with running("reviews", SERVICE_VERSION="v2", **origin.variables("ratings")) as reviews:
            await fetch(session, f"{reviews}/reviews/0", headers)
    return received


def test_the_user_is_who_signed_in_and_not_who_a_header_or_a_forged_cookie_names() -> None:
    users: list[str | None] = []

    async def reviews(request: web.Request) -> web.Response:
        users.append(request.headers.get("end-user"))
        return web.json_response({"id": "0", "reviews": []})

    async def scenario() -> None:
        async with answering(reviews) as origin, browser() as session:
            with running("productpage", **origin.variables("reviews"), **nobody().variables("details")) as page:
                await fetch(session, f"{page}/productpage", {"end-user": "jason"})
                await fetch(session, f"{page}/productpage", {"cookie": f"session=jason.{'0' * 64}"})
                async with session.post(f"{page}/login", data={"username": "mary"}):
                    pass
                await fetch(session, f"{page}/productpage", {"end-user": "jason"})

    run(scenario())

    assert users == [None, None, "mary", "mary"]


def test_a_page_without_reviews_shows_the_rest_and_why() -> None:
    with (
        running("details") as details,
        running("productpage", **details.variables("details"), **nobody().variables("reviews")) as origin,
    ):
        page = get(f"{origin}/productpage")
        reviews = get(f"{origin}/api/v1/products/0/reviews")

    assert page.status == 200
    assert "Reviews are currently unavailable" in page.text
    assert "Status 503" in page.text
    assert "Four Winds Press" in page.text
    assert reviews.status == 503
    assert "does not accept connections" in reviews.json["error"]


def test_what_a_failing_service_says_is_shown_and_harmless() -> None:
    async def details(_: web.Request) -> web.Response:
        return web.Response(status=555, text="<script>fault filter abort</script>")

    async def scenario() -> Reply:
        async with answering(details) as origin, ClientSession() as session:
            with running("productpage", **origin.variables("details"), **origin.variables("reviews")) as page:
                return await fetch(session, f"{page}/productpage")

    page = run(scenario())

    assert "Book details are currently unavailable" in page.text
    assert "Status 555" in page.text
    assert "&lt;script&gt;fault filter abort" in page.text


def test_a_failure_without_words_is_still_a_whole_sentence() -> None:
    async def reviews(_: web.Request) -> web.Response:
        return web.Response(status=500)

    async def scenario() -> Reply:
        async with answering(reviews) as origin, ClientSession() as session:
            with running("productpage", **origin.variables("reviews")) as page:
                return await fetch(session, f"{page}/api/v1/products/0/reviews")

    reply = run(scenario())

    assert reply.status == 500
    assert reply.json == {"error": "reviews are currently unavailable: nothing was said of the reason"}


@pytest.mark.parametrize("body", [b"not JSON", b'{"id": 0}', b"[" + b" " * 100_000 + b"]"])
def test_an_answer_that_is_not_understood_is_unavailable(body: bytes) -> None:
    async def reviews(_: web.Request) -> web.Response:
        return web.Response(body=body)

    async def scenario() -> Reply:
        async with answering(reviews) as origin, ClientSession() as session:
            with running("productpage", **origin.variables("reviews")) as page:
                return await fetch(session, f"{page}/api/v1/products/0/reviews")

    reply = run(scenario())

    assert reply.status == 502


def test_reviews_come_without_stars_when_ratings_does_not_answer() -> None:
    listening = socket.create_server(("127.0.0.1", 0))  # accepts, and never says a word
    silent = Origin(*listening.getsockname())

    with listening, running("reviews", SERVICE_VERSION="v3", **silent.variables("ratings")) as origin:
        reviews = get(f"{origin}/reviews/0")

    assert reviews.status == 200
    assert [review["rating"] for review in reviews.json["reviews"]] == [
        {"error": "Ratings are currently unavailable (status 504)"}
    ] * 2


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]

        with launch("details", PORT=str(port)) as program:
            _, complaint = program.communicate(timeout=10)

    assert program.returncode == 1
    assert complaint.startswith("details cannot listen: Address already in use")
    assert f"('{ADDRESS}', {port})" in complaint
    assert complaint.endswith("change BIND_ADDRESS or PORT\n")
    assert complaint.count("\n") == 1


def test_an_unknown_version_of_reviews_is_one_clear_line() -> None:
    with launch("reviews", SERVICE_VERSION="v4") as program:
        _, complaint = program.communicate(timeout=10)

    assert program.returncode == 1
    assert complaint == "SERVICE_VERSION is 'v4'; reviews exists as v1, v2, v3\n"
