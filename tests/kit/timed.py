"""An application whose requests say how long their responses take, by HTTP/1.1 and by gRPC.

The path of a request, and the message of a call, are the milliseconds.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.kit.grpc_echo import echo_server

HTTP_PORT, GRPC_PORT = 9080, 9081


@asynccontextmanager
async def timed_application(ip: str) -> AsyncIterator[None]:
    with echo_server(ip, GRPC_PORT, takes=_seconds):
        async with _http_origin(ip):
            yield


def _seconds(message: bytes) -> float:
    return int(message) / 1000


@asynccontextmanager
async def _http_origin(ip: str) -> AsyncIterator[None]:
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(_seconds(head.split(b" ", 2)[1][1:]))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, ip, HTTP_PORT)
    try:
        yield
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await server.wait_closed()
