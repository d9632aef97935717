"""HTTP/1.1 through the whole mesh: with curl and aiohttp where they can say it, byte by byte where they would not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from l4.config.settings import Settings
from l4.hbone.errors import TunnelReset
from tests.kit.aio import run
from tests.kit.captured import captured
from tests.kit.mesh import Mesh, address, manifests, mesh, settled, with_settings
from tests.kit.origin import Handler, answering, origin

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Setting:
    mesh: Mesh
    pod: str
    authority: str
    at: str
    """Host and port for clients that know nothing of tunnels."""

    async def tunnel(self, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.mesh.tunnel(self.authority)
        writer.write(sent)
        return reader, writer

    async def answers(self, sent: bytes) -> bytes:
        """All that comes back until the waypoint closes."""
        reader, writer = await self.tunnel(sent)
        answer = await reader.read()
        writer.close()
        return answer

    async def curl(self, *options: str, path: str = "/") -> str:
        """What curl prints, answer heads included."""
        command = ("curl", "-sSi", "--max-time", "10", "--noproxy", "*", *options, f"http://{self.at}{path}")
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return output.decode()

    def refused(self, reason: str) -> int:
        """How often the counter says that this was the reason."""
        text = self.mesh.metrics.render("")[0].decode()
        line = f'pywaypoint_refused_total{{reason="{reason}"}} '
        return next((int(float(it.removeprefix(line))) for it in text.splitlines() if it.startswith(line)), 0)


@asynccontextmanager
async def _setting(folder: Path, settings: Settings | None = None, *, more: str = "") -> AsyncIterator[Setting]:
    waypoint, vip, pod = address(), address(), address()
    text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod}, more=more)
    async with mesh(folder, text, waypoint, settings) as it, captured(it, f"{vip}:9080") as (host, port):
        yield Setting(it, pod, f"{vip}:9080", f"{host}:{port}")
        await settled(lambda: it.path.exchanges == 0)


def responding(*responses: bytes, then_closes: bool = False) -> Handler:
    """Answers the head of each request with the next of these bytes, whatever they are."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for response in responses:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
        if not then_closes:
            await reader.read()

    return handler


@asynccontextmanager
async def application(pod: str, handler: web.RequestHandler) -> AsyncIterator[None]:  # type: ignore[type-arg]
    """An aiohttp application that handles every request in the same way."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, pod, 9080).start()
    try:
        yield
    finally:
        await runner.cleanup()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# -- what has no body, or more than one head -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "response", "expected"),
    [
        (("-I",), b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "content-length: 1000"),
        ((), b"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content"),
        ((), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: x\r\n\r\n", "etag: x"),
    ],
)
def test_a_response_without_a_body_ends_with_its_head_and_the_connection_goes_on(
    tmp_path: Path, options: tuple[str, ...], response: bytes, expected: str
) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, responding(response, response)) as seen:
            answer = await it.curl(*options, f"http://{it.at}/first")

        assert answer.count(expected) == 2
        assert seen.connections == 1

    run(scenario())


def test_the_application_decides_whether_a_body_may_come(tmp_path: Path) -> None:
    async def receive(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.headers['expect']} {len(await request.read())}")

    async def scenario() -> None:
        async with _setting(tmp_path) as it, application(it.pod, receive):
            answer = await it.curl("-H", "Expect: 100-continue", "--expect100-timeout", "9", "-d", "x" * 2000)

        assert answer.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert answer.endswith("100-continue 2000")

    run(scenario())


def test_an_application_that_wants_no_body_is_not_sent_one(tmp_path: Path) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, responding(refusal)) as seen:
            answer = await it.answers(
                b"PUT / HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n"
            )
            await settled(lambda: seen.closed == 1)

        assert status(answer) == 413
        assert b"\r\nconnection: close\r\n" in answer

    run(scenario())


def test_early_hints_arrive_before_the_response(tmp_path: Path) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, responding(hints + hints + OK)):
            answer = await it.curl()

        assert answer.count("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n") == 2
        assert answer.endswith("\r\n\r\nhello")

    run(scenario())


# -- bodies ---------------------------------------------------------------------------------------------------------


def test_chunks_pass_in_both_directions(tmp_path: Path) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for data in request.content.iter_any():
            await response.write(data)
        return response

    async def parts() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d," % number * number

    async def scenario() -> None:
        async with (
            _setting(tmp_path) as it,
            application(it.pod, echo),
            aiohttp.ClientSession() as session,
            session.post(f"http://{it.at}/", data=parts()) as response,
        ):
            framing = response.headers["transfer-encoding"]
            content = await response.read()

        assert framing == "chunked"
        assert content == b"".join([part async for part in parts()])

    run(scenario())


def test_events_arrive_as_they_are_sent(tmp_path: Path) -> None:
    received = [asyncio.Event() for _ in range(3)]

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number, event in enumerate(received):
            await response.write(b"data: %d\n\n" % number)
            await event.wait()  # the next is sent only when this one has been read
        return response

    async def scenario() -> None:
        async with (
            _setting(tmp_path) as it,
            application(it.pod, events),
            aiohttp.ClientSession() as session,
            session.get(f"http://{it.at}/") as response,
        ):
            for number, event in enumerate(received):
                assert await response.content.readuntil(b"\n\n") == b"data: %d\n\n" % number
                event.set()
            assert await response.content.read() == b""

    run(scenario())


@pytest.mark.parametrize(("te", "passes"), [(b"TE: trailers\r\nConnection: TE\r\n", True), (b"", False)])
def test_trailers_of_a_response_go_to_clients_that_take_them(tmp_path: Path, te: bytes, passes: bool) -> None:
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a\r\n\r\n"

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, responding(response)) as seen:
            answer = await it.answers(GET[:-2] + te + b"Connection: close\r\n\r\n")

        assert answer.endswith(b"1\r\na\r\n0\r\nx-sum: 1\r\n\r\n" if passes else b"1\r\na\r\n0\r\n\r\n")
        assert (b"te: trailers" in seen.heads[0]) == passes

    run(scenario())


@pytest.mark.parametrize(("te", "passed_on"), [(b"TE: trailers\r\nConnection: TE\r\n", b"x-sum: 1\r\n"), (b"", b"")])
def test_trailers_of_a_request_go_on_where_they_are_spoken_of_but_for_those_that_decide(
    tmp_path: Path, te: bytes, passed_on: bytes
) -> None:
    received = b""

    async def noting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        received = await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, noting):
            reader, writer = await it.tunnel(
                CHUNKED[:-2] + te + b"\r\n1;x=y\r\na\r\n0\r\nX-Sum: 1\r\nAuthorization: root\r\n\r\n"
            )
            await reader.readuntil(b"hello")
            writer.close()

        assert received == b"1\r\na\r\n0\r\n" + passed_on + b"\r\n"

    run(scenario())


# -- one connection, several requests --------------------------------------------------------------------------------


def test_a_reply_of_the_waypoint_itself_does_not_cost_the_connection(tmp_path: Path) -> None:
    only = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules: [{matches: [{path: {value: /ok}}], backendRefs: [{name: app, port: 9080}]}]
"""

    async def scenario() -> None:
        async with _setting(tmp_path, more=only) as it, origin(it.pod, answering()):
            reader, writer = await it.tunnel(GET + GET.replace(b"/ ", b"/ok ", 1))
            first = await reader.readuntil(b"\r\n\r\n")
            second = await reader.readuntil(b"hello")
            writer.close()

        assert status(first) == 404
        assert b"connection: close" not in first
        assert status(second) == 200

    run(scenario())


def test_what_is_refused_is_answered_after_what_was_asked_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()):
            answer = await it.answers(GET * 3 + b"nonsense\r\n\r\n" + GET)
            count = it.refused("malformed_http")

        assert answer.count(b"HTTP/1.1 200 OK") == 3
        assert answer.count(b"HTTP/1.1 400 Bad Request") == 1
        assert answer.index(b"400") > answer.rindex(b"200")
        assert count == 1

    run(scenario())


def test_requests_that_came_before_the_client_closed_its_side_are_all_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()):
            reader, writer = await it.tunnel(GET * 3)
            writer.write_eof()
            answer = await reader.read()
            writer.close()

        assert answer.count(b"HTTP/1.1 200 OK") == 3

    run(scenario())


def test_a_request_that_waits_and_is_never_completed_is_not_begun(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()) as seen:
            reader, writer = await it.tunnel(GET + CHUNKED + b"5\r\nhal")
            writer.write_eof()
            answer = await reader.read()
            writer.close()

        assert answer.count(b"HTTP/1.1 200 OK") == 1
        assert len(seen.heads) == 1

    run(scenario())


def test_bytes_after_the_last_request_are_ignored(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()) as seen:
            answer = await it.answers(GET[:-2] + b"Connection: close\r\n\r\n" + GET)

        assert answer.count(b"HTTP/1.1") == 1
        assert len(seen.heads) == 1

    run(scenario())


# -- limits ----------------------------------------------------------------------------------------------------------

POST = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("limit", "within", "beyond", "expected"),
    [
        ("pipelined_requests", GET * 17, GET * 18, 400),
        ("pipelined_bytes", GET + POST % 900 + b"x" * 900, GET + POST % 1000 + b"x" * 1000, 400),
        (
            "head_bytes",
            GET[:-2] + b"X: " + b"a" * 960 + b"\r\n\r\n",
            GET[:-2] + b"X: " + b"a" * 1000 + b"\r\n\r\n",
            431,
        ),
        ("head_fields", GET[:-2] + b"X: 1\r\n" * 9 + b"\r\n", GET[:-2] + b"X: 1\r\n" * 10 + b"\r\n", 431),
        ("empty_lines", b"\r\n\r\n" + GET, b"\r\n\r\n\r\n" + GET, 400),
        ("nominated_headers", GET[:-2] + b"Connection: a,b,c,d,e,f,g,h,i\r\n\r\n", None, 400),
        ("chunk_extension_bytes", CHUNKED + b"1;aaa\r\nx\r\n0\r\n\r\n", CHUNKED + b"1;aaaa\r\nx\r\n0\r\n\r\n", 400),
    ],
)
def test_beyond_a_limit_a_request_is_refused_and_counted_under_its_name(
    tmp_path: Path, limit: str, within: bytes, beyond: bytes | None, expected: int
) -> None:
    settings = with_settings(head_bytes=1000, head_fields=10, chunk_extension_bytes=4, pipelined_bytes=1000)
    beyond = beyond or within.replace(b"a,b", b"a,a,b")

    async def reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"chunked" in head:
                await reader.readuntil(b"0\r\n\r\n")
            elif b"content-length" in head:
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
            writer.write(OK)

    async def scenario() -> None:
        async with _setting(tmp_path, settings) as it, origin(it.pod, reading):
            reader, writer = await it.tunnel(within)
            writer.write_eof()
            good = await reader.read()
            writer.close()
            assert it.refused(limit) == 0
            bad = await it.answers(beyond)
            count = it.refused(limit)

        assert good.count(b"HTTP/1.1 200 OK") == good.count(b"HTTP/1.1 ") > 0
        assert b"HTTP/1.1 %d " % expected in bad
        assert count == 1

    run(scenario())


def test_a_head_that_comes_too_slowly_is_answered_408(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, with_settings(head_seconds=0.1)) as it:
            reader, writer = await it.tunnel(GET[:10])
            for byte in GET[10:-2]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)
            answer = await reader.read()
            writer.close()
            count = it.refused("head_seconds")

        assert status(answer) == 408
        assert b"\r\nconnection: close\r\n" in answer
        assert count == 1

    run(scenario())


async def hanging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads whatever comes, and says nothing."""
    await reader.readuntil(b"\r\n\r\n")
    await reader.read()


@pytest.mark.parametrize("sent", [POST % 99, CHUNKED + b"63\r\nx"])
def test_a_body_that_comes_too_slowly_is_answered_408_and_its_upstream_is_let_go(tmp_path: Path, sent: bytes) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, with_settings(body_grace_seconds=0.1)) as it, origin(it.pod, hanging) as seen:
            answer = await it.answers(sent)
            await settled(lambda: seen.closed == 1 and " 408 DPE request_body_timeout" in it.mesh.access_log)
            count = it.refused("body_bytes_per_second")

        assert status(answer) == 408
        assert b"\r\nconnection: close\r\n" in answer
        assert count == 1

    run(scenario())


def test_a_body_that_nobody_reads_is_not_called_slow(tmp_path: Path) -> None:
    size = 4 << 20
    is_reading = asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await is_reading.wait()
        await reader.readexactly(size)
        writer.write(OK)

    async def scenario() -> None:
        settings = with_settings(body_grace_seconds=0.1, body_bytes_per_second=1 << 30)
        async with _setting(tmp_path, settings) as it, origin(it.pod, late):
            reader, writer = await it.tunnel(POST % size + bytes(size))
            await asyncio.sleep(0.3)
            is_reading.set()
            answer = await reader.readuntil(b"hello")
            writer.close()

        assert status(answer) == 200

    run(scenario())


# -- what breaks off -------------------------------------------------------------------------------------------------


def test_a_body_that_becomes_malformed_is_answered_400_and_its_upstream_is_let_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, hanging) as seen:
            reader, writer = await it.tunnel(CHUNKED + b"1\r\na\r\n")
            await settled(lambda: len(seen.heads) == 1)
            writer.write(b"nonsense\r\n")
            answer = await reader.read()
            writer.close()
            await settled(lambda: seen.closed == 1 and it.mesh.path.exchanges == 0)
            count = it.refused("malformed_http")

        assert status(answer) == 400
        assert b"\r\nconnection: close\r\n" in answer
        assert count == 1

    run(scenario())


def test_a_body_that_becomes_malformed_after_the_response_began_cuts_it(tmp_path: Path) -> None:
    beginning = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, responding(beginning)) as seen:
            reader, writer = await it.tunnel(CHUNKED + b"1\r\na\r\n")
            await reader.readuntil(b"hello")
            writer.write(b"nonsense\r\n")
            with pytest.raises(TunnelReset):
                await reader.read()
            await settled(lambda: seen.closed == 1)
            await settled(lambda: " 200 DPE " in it.mesh.access_log)

    run(scenario())


def test_an_early_response_arrives_whole_and_the_rest_of_the_request_goes_nowhere(tmp_path: Path) -> None:
    too_large = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large"

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, responding(too_large)) as seen:
            reader, writer = await it.tunnel(POST % (8 << 20) + bytes(100_000))
            answer = await reader.readuntil(b"too large")
            writer.write(bytes(100_000))
            rest = await reader.read()
            writer.close()
            await settled(lambda: seen.closed == 1)

        assert status(answer) == 413
        assert b"\r\nconnection: close\r\n" in answer
        assert rest == b""

    run(scenario())


def test_curl_gets_an_early_response_although_it_goes_on_sending(tmp_path: Path) -> None:
    too_large = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large"

    async def scenario() -> None:
        (tmp_path / "big").write_bytes(bytes(4 << 20))
        async with _setting(tmp_path) as it, origin(it.pod, responding(too_large)):
            answer = await it.curl("-T", str(tmp_path / "big"), "-H", "Expect:")

        assert answer.startswith("HTTP/1.1 413 Content Too Large\r\n")
        assert answer.endswith("too large")

    run(scenario())


PHASES = {
    "connect": (GET, 0),
    "head": (GET, 1),
    "request body": (POST % 99 + b"half of it", 1),
    "chunked request body": (CHUNKED + b"5\r\nhal", 1),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_client_that_goes_away_before_the_response_takes_its_upstream_along(tmp_path: Path, phase: str) -> None:
    sent, heads = PHASES[phase]

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, hanging) as seen:
            _, writer = await it.tunnel(sent)
            await settled(lambda: len(seen.heads) >= heads and it.mesh.path.exchanges == 1)
            writer.transport.abort()
            await settled(lambda: it.mesh.path.exchanges == 0 and seen.closed == seen.connections)
            await settled(lambda: " 0 DC downstream_remote_disconnect" in it.mesh.access_log)

    run(scenario())


@pytest.mark.parametrize("sent", [POST % 99 + b"half", CHUNKED + b"5\r\nhal", GET[:-2]])
def test_half_a_request_is_never_taken_for_a_whole_one(tmp_path: Path, sent: bytes) -> None:
    received = b""

    async def noting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received = await reader.read()

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, noting) as seen:
            reader, writer = await it.tunnel(sent)
            writer.write_eof()
            with pytest.raises(TunnelReset):
                await reader.read()
            await settled(lambda: seen.closed == seen.connections)

        assert not received.endswith(b"0\r\n\r\n")

    run(scenario())


@pytest.mark.parametrize(
    ("beginning", "is_answered"),
    [
        (b"", True),
        (b"HTTP/1.1 200 OK\r\nContent-Le", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", False),
    ],
)
@pytest.mark.parametrize("sent", [GET, POST % 99 + b"half of it"])
def test_half_a_response_is_never_taken_for_a_whole_one(
    tmp_path: Path, sent: bytes, beginning: bytes, is_answered: bool
) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, responding(beginning, then_closes=True)):
            reader, writer = await it.tunnel(sent)
            if is_answered:
                answer = await reader.readuntil(b"\r\n\r\n")
                assert status(answer) == 503
            else:
                with pytest.raises(TunnelReset):
                    await reader.read()
            writer.close()

    run(scenario())


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nhello",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9 + OK,
        OK + OK,
        b"<html></html>\r\n\r\n",
    ],
)
def test_a_response_that_breaks_the_rules_is_answered_502_and_its_connection_is_not_used_again(
    tmp_path: Path, response: bytes
) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, responding(response)) as seen:
            reader, writer = await it.tunnel(GET)
            answer = await reader.readuntil(b"\r\n\r\n")
            while answer.startswith(b"HTTP/1.1 103 "):
                answer = await reader.readuntil(b"\r\n\r\n")
            await settled(lambda: seen.closed == 1)
            await settled(lambda: " 502 UPE upstream_reset_before_response_started" in it.mesh.access_log)
            writer.close()

        assert status(answer) == 502

    run(scenario())


# -- other forms of requests ----------------------------------------------------------------------------------------


def test_an_absolute_target_decides_over_host(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()) as seen:
            answer = await it.curl("--request-target", "http://Other.:80/a/../b?c", "-H", "Host: app")

        assert answer.startswith("HTTP/1.1 200 OK")
        assert seen.heads[0].startswith(b"GET /b?c HTTP/1.1\r\nhost: other:80\r\n")

    run(scenario())


def test_http10_is_asked_to_upgrade(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            answer = await it.curl("--http1.0")

        assert answer.startswith("HTTP/1.1 426 Upgrade Required\r\n")

    run(scenario())


def test_the_offer_to_speak_h2c_is_ignored_and_not_passed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()) as seen:
            answer = await it.curl("--http2", "-d", "content")

        assert answer.startswith("HTTP/1.1 200 OK")
        assert b"upgrade" not in seen.heads[0].lower()
        assert b"http2-settings" not in seen.heads[0]

    run(scenario())


def test_a_trace_is_not_allowed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()) as seen:
            answer = await it.curl("-X", "TRACE")

        assert answer.startswith("HTTP/1.1 405 Method Not Allowed\r\n")
        assert "\r\nallow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n" in answer
        assert seen.connections == 0

    run(scenario())
