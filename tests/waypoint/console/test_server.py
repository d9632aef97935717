import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientError, ClientResponse, ClientSession, web
from aiohttp.test_utils import unused_port

from l4.admin import STREAMS, OperatorAddresses, OperatorPorts
from l4.asking.admin import Admin
from l4.partial import LACKS, lacks
from l4.telemetry.metrics import MeshMetrics
from policies.host_port import host_port
from tests.kit.aio import run
from waypoint.console import server
from waypoint.console.page import ASSETS
from waypoint.console.server import Asked, Console

ANYWHERE = ("127.0.0.1", 0)


async def _explain(request: web.Request) -> web.Response:
    return web.Response(status=400 if "to" not in request.query else 200, text=f"{sorted(request.query.items())}")


async def _silent(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def _broken(request: web.Request) -> web.StreamResponse:
    """Ends in the middle of an answer."""
    answer = web.StreamResponse(headers={"Content-Length": "100"})
    await answer.prepare(request)
    await answer.write(b"[1, 2")
    assert request.transport is not None
    request.transport.abort()
    return answer


async def _partial(_: web.Request) -> web.Response:
    lacks("worker 1 does not answer")
    return web.json_response([])


async def _read_on(answer: ClientResponse) -> None:
    while await answer.content.readany():
        pass


async def _flood(request: web.Request) -> web.StreamResponse:
    """More than all buffers on the way take, for ever."""
    stream = web.StreamResponse()
    request[STREAMS]()
    await stream.prepare(request)
    while True:
        await stream.write(bytes(1 << 16))


async def _tap(request: web.Request) -> web.StreamResponse:
    stream = web.StreamResponse()
    request[STREAMS]()
    await stream.prepare(request)
    await stream.write(b"one\n")
    await asyncio.Event().wait()
    return stream


@asynccontextmanager
async def _console() -> AsyncIterator[tuple[str, ClientSession]]:
    """The console of a mesh with one proxy, and of one that does not run."""
    ports = OperatorPorts(
        MeshMetrics("proxy", "1.0"),
        (),
        dump=lambda: asyncio.sleep(0, {"version": "7"}),
        stop=lambda: None,
        pages={
            "/explain": ("", _explain),
            "/tap": ("", _tap),
            "/top": ("", _flood),
            "/routes": ("", _silent),
            "/endpoints": ("", _partial),
            "/problems": ("", _broken),
        },
    )
    await ports.start(OperatorAddresses(ANYWHERE, ANYWHERE, ANYWHERE))
    waypoint = Admin("waypoint default/waypoint", host_port(*ports.addresses.admin))
    gone = Admin("ztunnel", f"127.0.0.1:{unused_port()}")
    asked = [
        Asked("waypoint default/waypoint", "waypoint", "default/waypoint", waypoint),
        Asked("ztunnel", "ztunnel", "", gone),
    ]
    served = Console(lambda: asked)
    host, port = await served.start(ANYWHERE)
    async with ClientSession() as client:
        try:
            yield f"http://{host}:{port}", client
        finally:
            await served.close()
            await waypoint.close()
            await gone.close()
            await ports.close()


def test_the_page_and_the_names_of_the_proxies_are_served() -> None:
    async def scenario() -> None:
        async with _console() as (base, client):
            async with client.get(f"{base}/") as page:
                assert (page.status, page.url.path) == (200, "/console/")
            async with client.get(f"{base}/programs") as programs:
                told = json.loads(await programs.text())

            assert [(it["name"], it["pages"]) for it in told] == [
                ("waypoint default/waypoint", "/programs/0/"),
                ("ztunnel", "/programs/1/"),
            ]

    run(scenario())


def test_a_question_is_passed_on_with_its_parameters_and_the_answer_back() -> None:
    async def scenario() -> None:
        async with _console() as (base, client):
            async with client.get(f"{base}/programs/0/traffic") as answer:
                assert (answer.status, answer.content_type) == (200, "application/json")
                assert json.loads(await answer.text())["edges"] == []
            asked = [("to", "reviews:9080"), ("header", "a: 1"), ("header", "b: ü&")]
            async with client.get(f"{base}/programs/0/explain", params=asked) as answer:
                assert (answer.status, await answer.text()) == (200, str(sorted(asked)))
            async with client.get(f"{base}/programs/0/explain") as answer:
                assert answer.status == 400

    run(scenario())


@pytest.mark.parametrize("path", ["0/stats", "0/quitquitquit", "0/logging", "2/traffic", "0/..%2flogging", "x/traffic"])
def test_no_other_page_and_no_other_program_is_asked(path: str) -> None:
    async def scenario() -> None:
        async with _console() as (base, client):
            async with client.get(f"{base}/programs/{path}") as answer:
                assert answer.status == 404
            async with client.post(f"{base}/programs/0/traffic") as answer:
                assert answer.status == 405

    run(scenario())


def test_a_page_of_another_origin_is_refused() -> None:
    async def scenario() -> None:
        async with _console() as (base, client):
            for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
                async with client.get(f"{base}/programs/0/traffic", headers=headers) as answer:
                    assert answer.status == 403

    run(scenario())


def test_a_proxy_that_cannot_be_asked_is_named() -> None:
    async def scenario() -> None:
        async with _console() as (base, client), client.get(f"{base}/programs/1/traffic") as answer:
            assert answer.status == 502
            assert (await answer.text()).startswith("the administration port of ztunnel cannot be reached: ")

    run(scenario())


def test_a_proxy_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(server, "SILENCE_SECONDS", 0.05)
        async with _console() as (base, client), client.get(f"{base}/programs/0/routes") as answer:
            assert answer.status == 502
            assert (await answer.text()).startswith("the administration port of waypoint default/waypoint gives no")

    run(scenario())


def test_an_answer_that_breaks_off_does_not_look_whole() -> None:
    async def scenario() -> None:
        async with _console() as (base, client), client.get(f"{base}/programs/0/problems") as answer:
            with pytest.raises(ClientError):
                await answer.read()

    run(scenario())


def test_a_stream_is_passed_on_as_it_comes() -> None:
    async def scenario() -> None:
        async with _console() as (base, client), client.get(f"{base}/programs/0/tap") as answer:
            assert await answer.content.readline() == b"one\n"

    run(scenario())


def test_a_browser_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(server, "WRITE_SECONDS", 0.2)
        async with _console() as (base, client), client.get(f"{base}/programs/0/top") as answer:
            assert answer.status == 200
            await asyncio.sleep(1)
            with pytest.raises(ClientError):
                await _read_on(answer)

    run(scenario())


def test_what_an_answer_lacks_is_passed_on() -> None:
    async def scenario() -> None:
        async with _console() as (base, client), client.get(f"{base}/programs/0/endpoints") as answer:
            assert (answer.headers[LACKS], await answer.json()) == ("worker 1 does not answer", [])
        assert f'"{LACKS}"' in (ASSETS / "api.js").read_text()

    run(scenario())
