"""Applications for tests: plain TCP servers that answer or misbehave as a test sets, and count."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Origin:
    """What an origin received: the number of connections, the heads of requests, the bodies read by their length, and
    the number of closed connections."""

    connections: int = 0
    closed: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def origin(ip: str, handler: Handler, port: int = 9080) -> AsyncIterator[Origin]:
    """Run `handler` for every connection. The handler is cancelled if the peer disconnects."""
    seen = Origin()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            await handler(_Noting(reader, seen), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            seen.closed += 1
            writer.close()

    server = await asyncio.start_server(connected, ip, port)
    try:
        yield seen
    finally:
        server.close()
        await server.wait_closed()


class _Noting(asyncio.StreamReader):
    """A reader that records what is read from it."""

    def __init__(self, reader: asyncio.StreamReader, seen: Origin) -> None:
        self._inner = reader
        self._seen = seen

    async def readuntil(self, separator: object = b"\r\n\r\n") -> bytes:
        head = await self._inner.readuntil(separator)  # type: ignore[arg-type]
        self._seen.heads.append(head)
        return head

    async def readexactly(self, n: int) -> bytes:
        body = await self._inner.readexactly(n)
        self._seen.bodies.append(body)
        return body

    async def read(self, n: int = -1) -> bytes:
        return await self._inner.read(n)


def answering(body: bytes = b"hello", *, status: str = "200 OK", headers: str = "") -> Handler:
    """Answer every request with the same response. Request bodies are read by their Content-Length."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if length:
                await reader.readexactly(int(length))
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)

    return handler


Step = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Handles one request whose head and body have been read."""


def scripted(*steps: Step) -> Handler:
    """Give every request, whatever its connection or server, the next step. The last step repeats."""
    taken = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if length:
                await reader.readexactly(int(length))
            step = steps[min(taken, len(steps) - 1)]
            taken += 1
            await step(reader, writer)

    return handler


def reply(status: str = "200 OK", body: bytes = b"hello", headers: str = "", *, after: float = 0) -> Step:
    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(after)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)
        await writer.drain()

    return step


def raw(data: bytes) -> Step:
    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return step


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send nothing until the peer gives up."""
    await reader.read()
    raise ConnectionResetError


def reset(after: bytes = b"") -> Step:
    """Return a step that resets the connection after this much of a response."""

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after:
            writer.write(after)
            await writer.drain()
        writer.close()
        raise ConnectionResetError

    return step
