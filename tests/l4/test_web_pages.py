import asyncio

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from l4.web_pages import serve_own_pages_only
from tests.kit.aio import run

OWN = {"Origin": "http://127.0.0.1:15000", "Host": "127.0.0.1:15000"}


async def _hello(_: web.Request) -> web.Response:
    return web.Response(text="hello\n")


async def _asked(method: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
    app = web.Application()
    serve_own_pages_only(app)
    app.router.add_get("/", _hello)
    app.router.add_post("/", _hello)
    async with (
        TestServer(app) as server,
        ClientSession() as client,
        client.request(method, server.make_url("/"), headers=headers) as it,
    ):
        return it.status, await it.text(), dict(it.headers)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("POST", {}),
        ("GET", {"Host": "localhost:15000"}),
        ("GET", {"Host": "[::1]:15000"}),
        ("GET", OWN),
        ("GET", {"Sec-Fetch-Site": "none"}),
        ("GET", {**OWN, "Sec-Fetch-Site": "same-origin"}),
    ],
    ids=str,
)
def test_tools_and_our_own_page_are_answered(method: str, headers: dict[str, str]) -> None:
    async def scenario() -> None:
        assert (await _asked(method, headers))[:2] == (200, "hello\n")

    run(scenario())


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Origin": "http://evil.example"}),
        ("GET", {"Origin": "null"}),
        ("GET", {**OWN, "Origin": "http://127.0.0.1:15001"}),
        ("GET", {**OWN, "Origin": "https://127.0.0.1:15000"}),
        ("GET", {"Sec-Fetch-Site": "cross-site"}),
        ("GET", {"Sec-Fetch-Site": "same-site"}),
        ("GET", {"Host": "evil.example:15000"}),
        ("GET", {"Host": "[::1"}),
        ("GET", {"Host": ""}),
        ("GET", {"Host": "localhost.:15000"}),
        ("GET", {"Host": "127.0.0.1.evil.example"}),
        ("GET", {"Host": "evil.example@127.0.0.1"}),
        ("POST", OWN),
        ("POST", {"Sec-Fetch-Site": "same-origin"}),
    ],
    ids=str,
)
def test_other_pages_and_changes_by_any_page_are_refused(method: str, headers: dict[str, str]) -> None:
    async def scenario() -> None:
        status, text, _ = await _asked(method, headers)

        assert status == 403
        assert "use curl" in text

    run(scenario())


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://evil.example"}], ids=str)
def test_no_answer_may_be_used_elsewhere_or_load_anything_from_elsewhere(headers: dict[str, str]) -> None:
    async def scenario() -> None:
        _, _, answered = await _asked("GET", headers)

        assert answered["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
        assert "frame-ancestors 'none'" in answered["Content-Security-Policy"]
        assert "unsafe" not in answered["Content-Security-Policy"]
        assert answered["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answered["X-Content-Type-Options"] == "nosniff"
        assert answered["Cache-Control"] == "no-store"
        assert not any(name.startswith("Access-Control-") for name in answered)

    run(scenario())


def test_a_second_host_header_is_looked_at_too() -> None:
    async def scenario() -> None:
        app = web.Application()
        serve_own_pages_only(app)
        app.router.add_get("/", _hello)
        async with TestServer(app) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()

        assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.0 400"))

    run(scenario())
