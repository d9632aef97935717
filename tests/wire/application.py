"""An application that answers 200 to everything, and keeps the whole requests that reached it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.kit.mesh import settled
from waypoint.http import h1_format

_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n", re.IGNORECASE)
_ADDED_TO_REQUESTS = frozenset(
    {b"x-request-id", b"x-forwarded-proto", b"x-envoy-attempt-count", b"x-envoy-expected-rq-timeout-ms"}
)
_ADDED_TO_RESPONSES = frozenset({b"server", b"date", b"x-envoy-upstream-service-time", b"connection"})


class Application:
    """`requests` are as they came, but for chunked bodies, which are in one chunk."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head + await body_of(head, reader))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.remove(writer)
            writer.close()

    def take(self) -> list[bytes]:
        requests, self.requests = self.requests, []
        return requests


@asynccontextmanager
async def application(ip: str, port: int = 9080) -> AsyncIterator[Application]:
    it = Application()
    server = await asyncio.start_server(it.serve, ip, port, limit=1 << 20)
    try:
        yield it
    finally:
        server.close()
        for writer in it.connections:
            writer.close()
        await settled(lambda: not it.connections)


async def body_of(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """The body that a head announces, chunks made one."""
    if length := _LENGTH.search(head):
        return await reader.readexactly(int(length[1]))
    if not _CHUNKED.search(head):
        return b""
    data = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        data += (await reader.readexactly(size + 2))[:-2]
    trailers = b""
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        trailers += line
    return (h1_format.format_chunk(data) if data else b"") + b"0\r\n" + trailers + b"\r\n"


def without_added(head: bytes, expected: bytes) -> bytes:
    """A head, or a message, without the fields that a waypoint adds, unless they are expected."""
    head, end, body = head.partition(b"\r\n\r\n")
    added = _ADDED_TO_RESPONSES if head.startswith(b"HTTP/") else _ADDED_TO_REQUESTS
    hidden = added - {_name(line) for line in expected.split(b"\r\n")}
    return b"\r\n".join(line for line in head.split(b"\r\n") if _name(line) not in hidden) + end + body


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()
