"""Applications for tests: plain TCP servers that answer as they are told, and count."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Origin:
    """What an origin saw: how many connections, the heads of its requests, and how many connections are gone."""

    connections: int = 0
    closed: int = 0
    heads: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def origin(ip: str, handler: Handler, port: int = 9080) -> AsyncIterator[Origin]:
    """Runs `handler` for every connection; a peer that goes away ends it."""
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
    """A reader that notes the heads that are read from it."""

    def __init__(self, reader: asyncio.StreamReader, seen: Origin) -> None:
        self._inner = reader
        self._seen = seen

    async def readuntil(self, separator: object = b"\r\n\r\n") -> bytes:
        head = await self._inner.readuntil(separator)  # type: ignore[arg-type]
        self._seen.heads.append(head)
        return head

    async def readexactly(self, n: int) -> bytes:
        return await self._inner.readexactly(n)

    async def read(self, n: int = -1) -> bytes:
        return await self._inner.read(n)


def answering(body: bytes = b"hello", *, status: str = "200 OK", headers: str = "") -> Handler:
    """Answers every request of a connection with the same response; bodies of requests are read by content-length."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if length:
                await reader.readexactly(int(length))
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)

    return handler
