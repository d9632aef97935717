"""WebSocket through the whole mesh, with real libraries on both ends (RFC 6455, HTTP/1.1 upgrades)."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from l4.config.settings import Settings
from tests.kit.aio import run
from tests.kit.captured import captured
from tests.kit.front import http2_front
from tests.kit.http2 import http2_client
from tests.kit.mesh import Mesh, address, manifests, mesh, settled, with_settings
from tests.kit.origin import Handler, origin

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass
class Setting:
    mesh: Mesh
    pod: str
    authority: str
    at: str
    """Host and port for clients."""

    def connect(self, path: str = "/ws", **options: object) -> connect:
        return connect(f"ws://{self.at}{path}", max_size=None, proxy=None, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def _setting(folder: Path, settings: Settings | None = None) -> AsyncIterator[Setting]:
    waypoint, vip, pod = address(), address(), address()
    text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
    async with mesh(folder, text, waypoint, settings) as it, captured(it, f"{vip}:9080") as (host, port):
        yield Setting(it, pod, f"{vip}:9080", f"{host}:{port}")
        await settled(lambda: it.path.exchanges == 0)


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def test_messages_of_every_kind_and_size_come_back_as_they_were_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        messages = ["text", b"\0binary", "x" * (1 << 20), bytes(range(256)) * 4096]
        async with _setting(tmp_path) as it, serve(_echo, it.pod, 9080, max_size=None), it.connect() as client:
            for message in messages:
                await client.send(message)
            echoes = [await client.recv() for _ in messages]

        assert echoes == messages

    run(scenario())


def test_a_ping_from_either_side_gets_its_pong(tmp_path: Path) -> None:
    async def pinging(connection: ServerConnection) -> None:
        await (await connection.ping())
        await connection.send("pong seen")
        await connection.wait_closed()

    async def scenario() -> None:
        async with _setting(tmp_path) as it, serve(pinging, it.pod, 9080), it.connect() as client:
            seen = await client.recv()

            pong = await client.ping(b"1")
            await pong

        assert seen == "pong seen"
        assert pong.done()

    run(scenario())


def test_the_client_may_end_the_conversation_and_both_sides_know_why(tmp_path: Path) -> None:
    ended: list[ServerConnection] = []

    async def listening(connection: ServerConnection) -> None:
        await connection.wait_closed()
        ended.append(connection)

    async def scenario() -> None:
        async with _setting(tmp_path) as it, serve(listening, it.pod, 9080):
            async with it.connect() as client:
                await client.close(4001, "enough")
            await settled(lambda: bool(ended))

        assert (client.close_code, client.close_reason) == (4001, "enough")
        assert (ended[0].close_code, ended[0].close_reason) == (4001, "enough")

    run(scenario())


def test_the_application_may_end_the_conversation(tmp_path: Path) -> None:
    async def leaving(connection: ServerConnection) -> None:
        await connection.send("last words")
        await connection.close(1000, "bye")

    async def scenario() -> None:
        async with _setting(tmp_path) as it, serve(leaving, it.pod, 9080), it.connect() as client:
            assert await client.recv() == "last words"
            with pytest.raises(ConnectionClosedOK) as closed:
                await client.recv()

        assert closed.value.rcvd is not None
        assert closed.value.rcvd.reason == "bye"

    run(scenario())


def test_an_application_that_refuses_is_heard(tmp_path: Path) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "members only\n")

    async def scenario() -> None:
        async with _setting(tmp_path) as it, serve(_echo, it.pod, 9080, process_request=refuse):
            with pytest.raises(InvalidStatus) as refused:
                await it.connect().__aenter__()
            await settled(lambda: " 403 - via_upstream" in it.mesh.access_log)

        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"members only\n"

    run(scenario())


def test_the_exchange_is_logged_with_101_and_the_bytes_of_both_directions(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, serve(_echo, it.pod, 9080, compression=None):
            async with it.connect(compression=None) as client:
                await client.send("x" * 1000)
                await client.recv()
                assert it.mesh.access_log == ""
            await settled(lambda: bool(it.mesh.access_log))

            logged = re.search(r'"GET /ws HTTP/1.1" 101 - via_upstream - "-" (\d+) (\d+) ', it.mesh.access_log)

        assert logged is not None
        message, close = 1000 + 4, 2 + 2
        assert (int(logged[1]), int(logged[2])) == (message + 4 + close + 4, message + close)  # a client masks: 4 more

    run(scenario())


def test_silence_does_not_end_a_conversation(tmp_path: Path) -> None:
    settings = with_settings(
        idle_http_seconds=0.05, head_seconds=0.05, body_grace_seconds=0.05, upstream_idle_http_seconds=0.05
    )

    async def scenario() -> None:
        async with _setting(tmp_path, settings) as it, serve(_echo, it.pod, 9080), it.connect() as client:
            await asyncio.sleep(0.3)

            await client.send("still there?")
            echo = await client.recv()

        assert echo == "still there?"

    run(scenario())


def test_an_application_that_dies_is_never_taken_for_one_that_said_goodbye(tmp_path: Path) -> None:
    async def dying(connection: ServerConnection) -> None:
        await connection.send("half")
        connection.transport.abort()

    async def scenario() -> None:
        async with _setting(tmp_path) as it, serve(dying, it.pod, 9080), it.connect() as client:
            assert await client.recv() == "half"
            with pytest.raises(ConnectionClosedError):
                await client.recv()

    run(scenario())


def test_a_client_that_vanishes_is_told_to_the_application(tmp_path: Path) -> None:
    ended: list[ServerConnection] = []

    async def listening(connection: ServerConnection) -> None:
        await connection.wait_closed()
        ended.append(connection)

    async def scenario() -> None:
        async with _setting(tmp_path) as it, serve(listening, it.pod, 9080):
            reader, writer = await it.mesh.tunnel(it.authority)
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
            await settled(lambda: bool(ended))
            await settled(lambda: "101 DC downstream_remote_disconnect" in it.mesh.access_log)

        assert ended[0].close_code == 1006

    run(scenario())


def test_aiohttp_talks_to_aiohttp(tmp_path: Path) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_str(message.data)
        return response

    async def scenario() -> None:
        application = web.Application()
        application.router.add_get("/ws", echo)
        runner = web.AppRunner(application)
        await runner.setup()
        async with _setting(tmp_path) as it, aiohttp.ClientSession() as session:
            await web.TCPSite(runner, it.pod, 9080).start()
            async with session.ws_connect(f"http://{it.at}/ws") as client:
                await client.send_str("hello")
                answer = await client.receive_str()
            await runner.cleanup()

        assert answer == "hello"

    run(scenario())


async def _raw(it: Setting, sent: bytes) -> bytes:
    reader, writer = await it.mesh.tunnel(it.authority)
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    return answer


def _answering(response: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)

    return handler


def test_what_is_sent_before_the_application_agreed_is_no_request_to_one_that_declines(tmp_path: Path) -> None:
    async def scenario() -> None:
        handler = _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
        async with _setting(tmp_path) as it, origin(it.pod, handler) as seen:
            answer = await _raw(it, UPGRADE + b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n")
            await settled(lambda: seen.closed == 1)

        assert answer.startswith(b"HTTP/1.1 200 OK\r\nconnection: close\r\n")
        assert answer.endswith(b"\r\n\r\nno")
        assert len(seen.heads) == 1
        assert b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n" in seen.heads[0]

    run(scenario())


def test_what_is_sent_before_the_application_agreed_is_not_lost(tmp_path: Path) -> None:
    async def slow_to_agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi ")
        writer.write(await reader.read())

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, slow_to_agree):
            reader, writer = await it.mesh.tunnel(it.authority)
            writer.write(UPGRADE + b"early ")
            writer.write(b"bird" * 50_000)
            writer.write_eof()
            answer = await reader.read()
            writer.close()

        head, _, content = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nconnection: upgrade\r\nupgrade: websocket" in head
        assert content == b"hi early " + b"bird" * 50_000

    run(scenario())


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
def test_an_application_cannot_switch_to_another_protocol(tmp_path: Path, response: bytes) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, _answering(response)):
            answer = await _raw(it, UPGRADE)

        assert answer.startswith(b"HTTP/1.1 502 ")

    run(scenario())


def test_an_application_cannot_switch_unasked(tmp_path: Path) -> None:
    response = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, _answering(response)):
            answer = await _raw(it, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 502 ")

    run(scenario())


# -- from HTTP/2 (RFC 8441) --------------------------------------------------------------------------------------------

EXTENDED_CONNECT = [
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":authority", b"app"),
    (b":path", b"/ws"),
    (b"sec-websocket-version", b"13"),
]


def test_a_client_of_http2_reaches_an_application_of_http1(tmp_path: Path) -> None:
    masked_text = b"\x81\x82\0\0\0\0hi"

    async def scenario() -> None:
        async with (
            _setting(tmp_path) as it,
            serve(_echo, it.pod, 9080),
            http2_front(it.mesh, (it.authority.partition(":")[0], 9080)) as front,
            http2_client(front.at) as client,
        ):
            stream = client.connect(EXTENDED_CONNECT)
            client.send(stream, masked_text)
            seen = client.streams[stream]
            await settled(lambda: len(seen.data) == 4)
            client.send(stream, b"", end=True)
            await settled(lambda: seen.is_over)

        assert seen.status == 200
        assert not {b"sec-websocket-accept", b"upgrade", b"connection"} & set(seen.headers)
        assert bytes(seen.data[:4]) == b"\x81\x02hi"

    run(scenario())


def test_an_application_that_does_not_answer_the_key_is_not_believed(tmp_path: Path) -> None:
    response = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    response += b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

    async def scenario() -> None:
        async with (
            _setting(tmp_path) as it,
            origin(it.pod, _answering(response)) as seen,
            http2_front(it.mesh, (it.authority.partition(":")[0], 9080)) as front,
            http2_client(front.at) as client,
        ):
            answer = await client.answer(client.connect(EXTENDED_CONNECT))
            await settled(lambda: seen.closed == 1)

        assert answer.status == 502

    run(scenario())
