"""Steady load on what stands behind a Service: HTTP/1.1 on kept and on new connections, HTTP/2, and gRPC.

Open loop: requests begin at their times, whether or not those before have been answered. Connections are taken from
their pools so unevenly that some are busy and some rest for seconds. A client behaves as it should: it sends nothing on
a connection whose end it has been told, and everything else that fails is a failure. Nothing is sent twice, except by
grpcio, which picks a connection before it looks whether that has ended: what it has not sent, it sends on another one.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Protocol

import grpc

from l4.config.settings import Settings
from policies.attributes import Headers, RequestHead, ResponseHead
from tests.kit.grpc_echo import SERVICE
from waypoint.errors import ExchangeError
from waypoint.http.events import EMPTY, Body
from waypoint.http.h2_client import Http2Client

_LONGEST_SECONDS = 15.0  # longer than a connection attempt may take
_KEPT_CONNECTIONS = 24
_SHARED_CONNECTIONS = 3

Address = tuple[str, int]


@dataclass(slots=True)
class Request:
    """`failure` is empty if the response was correct."""

    kind: str
    began: float
    ended: float = float("inf")
    failure: str = ""


@dataclass
class Log:
    """All requests. Active requests have no end yet."""

    requests: list[Request] = field(default_factory=list)

    @property
    def failed(self) -> list[Request]:
        return [it for it in self.requests if it.failure]

    def report(self) -> str:
        kinds = Counter(it.kind for it in self.requests)
        failures = Counter(f"{it.kind}: {it.failure}" for it in self.failed)
        slow = sorted(it.ended - it.began for it in self.requests)
        p99 = slow[len(slow) * 99 // 100]
        return f"{dict(kinds)}, p99 {p99:.3f} s, longest {slow[-1]:.3f} s, failed: {dict(failures)}"


class Client(Protocol):
    async def get(self, milliseconds: int) -> None:
        """Ask for an answer that takes so long to make. Raises whatever goes wrong."""

    async def close(self) -> None: ...


@asynccontextmanager
async def load(
    http: Address, rpc: Address, rate: float, *, has_http2: bool = True, kept_seconds: float = float("inf")
) -> AsyncIterator[Log]:
    """Send `rate` requests a second during the block, and wait for the active ones at its end.

    HTTP/2 needs a waypoint in the way: `timed_application` does not speak it. No connection of the others is used for
    longer than `kept_seconds`.
    """
    loop, roll, found = asyncio.get_running_loop(), Random(0), Log()
    kinds: tuple[tuple[str, Client], ...] = (
        ("HTTP/1.1", _Http1(http, roll, kept=_KEPT_CONNECTIONS, seconds=kept_seconds)),
        ("HTTP/1.1 anew", _Http1(http, roll, kept=0)),
        *((("HTTP/2", _Http2(http, roll)),) if has_http2 else ()),
        ("gRPC", _Grpc(rpc, roll, kept_seconds)),
    )

    async def ask(kind: str, client: Client) -> None:
        request = Request(kind, loop.time())
        found.requests.append(request)
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                await client.get(_milliseconds(roll))
        except Exception as error:  # whatever it is, it is an outcome that must not be
            request.failure = f"{type(error).__name__}: {error}"
        request.ended = loop.time()

    async def generate(tasks: asyncio.TaskGroup) -> None:
        due = loop.time()
        for number in count():
            tasks.create_task(ask(*kinds[number % len(kinds)]))
            due += 1 / rate
            await asyncio.sleep(max(due - loop.time(), 0))

    async with asyncio.TaskGroup() as tasks:
        generator = tasks.create_task(generate(tasks))
        try:
            yield found
        finally:
            generator.cancel()
    for _, client in kinds:
        await client.close()


def _milliseconds(roll: Random) -> int:
    """Most responses are immediate. Some take a while, so that any event meets active requests."""
    chance = roll.random()
    return 0 if chance < 0.8 else 50 if chance < 0.99 else 1000


class _Http1:
    """One request after the other on each connection, of which at most `kept` idle ones stay; a new one if none is."""

    def __init__(self, address: Address, roll: Random, *, kept: int, seconds: float = float("inf")) -> None:
        self._address = address
        self._roll = roll
        self._kept = kept
        self._seconds = seconds
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def get(self, milliseconds: int) -> None:
        reader, writer, opened = await self._take()
        try:
            writer.write(b"GET /%d HTTP/1.1\r\nHost: app\r\n\r\n" % milliseconds)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            writer.transport.abort()
            raise
        if b"connection: close" in head or len(self._idle) >= self._kept:
            writer.close()
        else:
            self._idle.append((reader, writer, opened))
        if not head.startswith(b"http/1.1 200"):
            raise AssertionError(head.partition(b"\r\n")[0].decode())

    async def close(self) -> None:
        for _, writer, _ in self._idle:
            writer.close()

    async def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, float]:
        now = asyncio.get_running_loop().time()
        while self._idle:
            # The cube: those at the end of the list rest for seconds.
            found = self._idle.pop(int(len(self._idle) * self._roll.random() ** 3))
            if not found[0].at_eof() and not found[1].is_closing() and now - found[2] < self._seconds:
                return found
            found[1].close()
        return *await asyncio.open_connection(*self._address), now


class _Http2:
    """A few connections, each with many streams."""

    def __init__(self, address: Address, roll: Random) -> None:
        self._address = address
        self._roll = roll
        self._clients: list[Http2Client | None] = [None] * _SHARED_CONNECTIONS
        self._opening = [asyncio.Lock() for _ in self._clients]

    async def get(self, milliseconds: int) -> None:
        number = self._roll.randrange(len(self._clients))
        async with self._opening[number]:
            client = self._clients[number]
            stream = client.stream() if client is not None else None
            if stream is None:
                client = self._clients[number] = await self._open()
                stream = client.stream()
        assert stream is not None
        answer = _Answer()
        stream.send_head(RequestHead(b"GET", b"app", b"/%d" % milliseconds, b"", []), EMPTY, answer)
        try:
            assert await answer.status == 200
        except asyncio.CancelledError:
            stream.abort()
            raise

    async def close(self) -> None:
        for client in self._clients:
            if client is not None:
                client.retire()

    async def _open(self) -> Http2Client:
        client = Http2Client(Settings(), on_gone=lambda client: None)
        await asyncio.get_running_loop().create_connection(lambda: client, *self._address)
        await client.is_ready
        return client


class _Answer:
    """A `ResponseSink`."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._status = 0

    def response_informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body) -> None:
        self._status = head.status

    def response_body(self, data: bytes) -> None: ...

    def response_end(self, trailers: Headers) -> None:
        if not self.status.done():
            self.status.set_result(self._status)

    def attempt_failed(self, error: ExchangeError) -> None:
        if not self.status.done():
            self.status.set_exception(error)

    def resume_upstream(self) -> None: ...


class _Grpc:
    """The real grpcio, whose calls end in its own threads."""

    def __init__(self, address: Address, roll: Random, seconds: float) -> None:
        self._address = address
        self._roll = roll
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._channels = [self._channel() for _ in range(_SHARED_CONNECTIONS)]

    def _channel(self) -> tuple[grpc.Channel, float]:
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ]
        return grpc.insecure_channel("{}:{}".format(*self._address), options=options), self._loop.time()

    async def get(self, milliseconds: int) -> None:
        number = self._roll.randrange(len(self._channels))
        channel, opened = self._channels[number]
        if self._loop.time() - opened > self._seconds:
            self._loop.call_later(_LONGEST_SECONDS, self._loop.run_in_executor, None, channel.close)
            self._channels[number] = channel, _ = self._channel()
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        ended: asyncio.Future[None] = self._loop.create_future()

        def done(call: grpc.Future) -> None:
            self._loop.call_soon_threadsafe(lambda: ended.done() or ended.set_result(None))

        call = unary.future(b"%d" % milliseconds, timeout=_LONGEST_SECONDS)
        call.add_done_callback(done)
        await ended
        if call.code() is not grpc.StatusCode.OK:
            raise AssertionError(f"{call.code()} {call.details()}")

    async def close(self) -> None:
        for channel, _ in self._channels:
            await asyncio.to_thread(channel.close)
