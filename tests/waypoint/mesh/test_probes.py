import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.kit.aio import run
from waypoint.mesh.probes import accepts, get


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[str, int]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        yield host, port


def test_what_is_answered_with_200_is_given() -> None:
    async def scenario() -> str | None:
        async with answering(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nready\n") as address:
            return await get(address, "/")

    assert run(scenario()) == "ready\n"


def test_any_other_answer_is_none() -> None:
    async def scenario() -> str | None:
        async with answering(b"HTTP/1.0 503 Service Unavailable\r\n\r\n 200 ") as address:
            return await get(address, "/")

    assert run(scenario()) is None


def test_nobody_who_listens_is_no_answer() -> None:
    async def scenario() -> tuple[bool, str | None]:
        async with answering(b"") as address:
            pass
        return await accepts(address), await get(address, "/")

    assert run(scenario()) == (False, None)
