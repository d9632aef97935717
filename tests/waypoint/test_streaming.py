"""Streams are never buffered whole: large bodies, slow and fast sides, and the memory of a real process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from l4.config.settings import Settings
from policies.attributes import Headers, RequestHead, ResponseHead
from tests.kit.aio import run
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process
from waypoint.errors import ExchangeError
from waypoint.http.events import EMPTY, Body
from waypoint.http.h2_client import ClientStream, Http2Client

MIB = 1 << 20
CHUNK = bytes(256 << 10)
MAX_GROWTH = 32 * MIB
STREAMS = 1000

flows = pytest.mark.parametrize(
    ("size", "pause_every"),
    [
        pytest.param(256 * MIB, 0, id="fast"),
        pytest.param(256 * MIB, 8 * MIB, id="slow"),
        pytest.param(1024 * MIB, 0, id="fast-GiB", marks=pytest.mark.soak),
        pytest.param(1024 * MIB, 8 * MIB, id="slow-GiB", marks=pytest.mark.soak),
    ],
)


class Source(asyncio.Protocol):
    """Sends `head`, and then `size` bytes, as fast as they are taken; when `is_asked`, after the first bytes that come.
    Notes what comes."""

    def __init__(self, head: bytes, size: int, *, is_asked: bool = False) -> None:
        self._head = head
        self._is_asked = is_asked
        self._left = size
        self._is_paused = False
        self.received = bytearray()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if not self._is_asked:
            self._begin()

    def _begin(self) -> None:
        self.transport.write(self._head)
        self._send()

    def _send(self) -> None:
        while self._left and not self._is_paused:
            data = CHUNK[: self._left]
            self._left -= len(data)
            self.transport.write(data)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._is_asked and not self.received:
            self._begin()
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self._left = 0
        if not self.ended.done():
            self.ended.set_result(None)


class Sink(asyncio.Protocol):
    """Counts what comes after the head, and answers when it was `size` bytes. Every `pause_every` bytes it stops
    reading for a moment, so that whoever sends is faster."""

    def __init__(self, size: int, *, ask: bytes = b"", answer: bytes = b"", pause_every: int = 0) -> None:
        self._size = size
        self._ask = ask
        self._answer = answer
        self._pause_every = pause_every
        self._next_pause = pause_every
        self._head: bytes | None = b""
        self.count = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._ask)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            _, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = None
        self.count += len(data)
        if self._pause_every and self.count >= self._next_pause:
            self._next_pause += self._pause_every
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.02, self.transport.resume_reading)
        if self.count >= self._size and not self.done.done():
            self.done.set_result(None)
            self.transport.write(self._answer)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"{self.count} of {self._size} bytes came: {error}"))


@asynccontextmanager
async def _application(it: WaypointProcess, factory: Callable[[], Source | Sink]) -> AsyncIterator[None]:
    accepted: list[Source | Sink] = []

    def accept() -> Source | Sink:
        accepted.append(factory())
        return accepted[-1]

    server = await asyncio.get_running_loop().create_server(accept, it.pod, 9080)
    try:
        yield
    finally:
        server.close()
        for protocol in accepted:
            protocol.transport.abort()
        await server.wait_closed()


@pytest.mark.timeout(120)
@flows
def test_a_download_is_not_kept(tmp_path: Path, size: int, pause_every: int) -> None:
    async def scenario() -> None:
        async with waypoint_process(tmp_path) as it:
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
            async with _application(it, lambda: Source(head, size, is_asked=True)):
                before = it.rss
                it.forget_peak()
                client = Sink(size, ask=b"GET / HTTP/1.1\r\nHost: app\r\n\r\n", pause_every=pause_every)
                await it.connect(client)
                await client.done
                client.transport.close()

            assert client.count == size
            assert it.peak_rss - before < MAX_GROWTH

    run(scenario(), 110)


@pytest.mark.timeout(120)
@flows
def test_an_upload_is_not_kept(tmp_path: Path, size: int, pause_every: int) -> None:
    async def scenario() -> None:
        async with waypoint_process(tmp_path) as it:
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            application: list[Sink] = []

            def accept() -> Sink:
                application.append(Sink(size, answer=answer, pause_every=pause_every))
                return application[0]

            async with _application(it, accept):
                before = it.rss
                it.forget_peak()
                head = b"POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
                client = Source(head, size)
                await it.connect(client)
                await client.ended

            assert bytes(client.received).endswith(b"ok")
            assert application[0].count == size
            assert it.peak_rss - before < MAX_GROWTH

    run(scenario(), 110)


class Http2Sink:
    """The response to one request over HTTP/2, counted. A `ResponseSink`."""

    def __init__(self, size: int, pause_every: int) -> None:
        self._size = size
        self._pause_every = pause_every
        self._next_pause = pause_every
        self.stream: ClientStream
        self.count = 0
        self.done = asyncio.get_running_loop().create_future()

    def response_informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body) -> None: ...

    def response_body(self, data: bytes) -> None:
        self.count += len(data)
        if self._pause_every and self.count >= self._next_pause:
            self._next_pause += self._pause_every
            self.stream.pause_response()
            asyncio.get_running_loop().call_later(0.02, self.stream.resume_response)

    def response_end(self, trailers: Headers) -> None:
        self.done.set_result(None)

    def attempt_failed(self, error: ExchangeError) -> None:
        self.done.set_exception(error)

    def resume_upstream(self) -> None: ...


@pytest.mark.timeout(120)
@flows
def test_a_download_by_http2_is_not_kept(tmp_path: Path, size: int, pause_every: int) -> None:
    async def scenario() -> None:
        async with waypoint_process(tmp_path) as it:
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
            async with _application(it, lambda: Source(head, size, is_asked=True)):
                before = it.rss
                it.forget_peak()
                client = Http2Client(Settings(), on_gone=lambda client: None)
                await it.connect(client)
                await client.is_ready
                sink = Http2Sink(size, pause_every)
                stream = client.stream()
                assert stream is not None
                sink.stream = stream
                stream.send_head(RequestHead(b"GET", b"app", b"/", b"", []), EMPTY, sink)
                await sink.done
                client.retire()

            assert sink.count == size
            assert it.peak_rss - before < MAX_GROWTH

    run(scenario(), 110)


def test_a_thousand_requests_wait_at_once_on_one_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        waiting: list[asyncio.StreamWriter] = []
        all_have_come = asyncio.Event()

        async def application(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            waiting.append(writer)
            if len(waiting) == STREAMS:
                all_have_come.set()
            await all_have_come.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
            writer.close()

        async with waypoint_process(tmp_path, INNER_HTTP2_STREAMS=str(STREAMS)) as it:
            server = await asyncio.start_server(application, it.pod, 9080, backlog=STREAMS)
            client = Http2Client(Settings(), on_gone=lambda client: None)
            await it.connect(client)
            await client.is_ready
            sinks = [Http2Sink(5, 0) for _ in range(STREAMS)]
            for sink in sinks:
                stream = client.stream()
                assert stream is not None
                stream.send_head(RequestHead(b"GET", b"app", b"/", b"", []), EMPTY, sink)
            await asyncio.gather(*(sink.done for sink in sinks))
            client.retire()
            server.close()
            await server.wait_closed()

        assert len(waiting) == STREAMS
        assert all(sink.count == 5 for sink in sinks)

    run(scenario(), 50)


def test_a_connection_serves_on_after_a_response_that_had_to_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            waypoint_process(tmp_path, BUFFERED_BYTES="1000", RESUME_BYTES="100") as it,
            origin(it.pod, answering(bytes(100_000))) as seen,
        ):
            reader, writer = await it.open()
            for _ in range(3):
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(100_000)
            writer.close()

        assert seen.connections == 1

    run(scenario())


def test_events_arrive_as_they_are_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        heard = asyncio.Semaphore(0)

        async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(5):
                writer.write(b"d\r\ndata: event%d\n\r\n" % number)
                await heard.acquire()  # the next one isn't made before this one was heard
            writer.write(b"0\r\n\r\n")
            writer.close()

        async with waypoint_process(tmp_path) as it:
            server = await asyncio.start_server(events, it.pod, 9080)
            reader, writer = await it.open()
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            for number in range(5):
                await reader.readuntil(b"data: event%d\n" % number)
                heard.release()
            await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            server.close()
            await server.wait_closed()

    run(scenario())
