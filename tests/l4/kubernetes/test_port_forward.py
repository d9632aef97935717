"""Forwarded connections over real sockets, through an emulated API server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from l4.kubernetes.port_forward import Forward, port_forward
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.kit.mesh import settled
from tests.l4.kubernetes.test_client import asking

POD = "/api/v1/namespaces/shop/pods/waypoint-1"


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[str, int]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[:2]


@asynccontextmanager
async def forwarding(server: KubernetesServer, to: tuple[str, int]) -> AsyncIterator[Forward]:
    server.forwards[POD] = to
    async with asking(server) as client, port_forward(client, "shop", "waypoint-1", 15000) as forward:
        yield forward


def test_a_connection_carries_bytes_both_ways() -> None:
    async def scenario() -> None:
        sent = bytes(range(256)) * 2000
        async with kubernetes_server() as server, echo() as to, forwarding(server, to) as forward:
            reader, writer = await asyncio.open_unix_connection(forward.socket)
            writer.write(sent)
            received = await reader.readexactly(len(sent))
            writer.close()

            assert received == sent
            assert server.requests == [f"GET {POD}/portforward?ports=15000"]
            assert forward.failure is None
        assert not forward.socket.exists()

    run(scenario())


def test_an_error_of_the_pod_ends_the_connection_and_is_told() -> None:
    async def scenario() -> None:
        async with kubernetes_server() as server, forwarding(server, ("127.0.0.1", 0)) as forward:
            reader, writer = await asyncio.open_unix_connection(forward.socket)

            assert await reader.read() == b""
            assert str(forward.failure) == f"{POD}/portforward: connection refused"
            writer.close()

    run(scenario())


def test_a_refusal_of_the_server_is_told() -> None:
    async def scenario() -> None:
        async with kubernetes_server() as server, forwarding(server, ("127.0.0.1", 1)) as forward:
            server.refusals.append((403, "Forbidden", {}))
            reader, writer = await asyncio.open_unix_connection(forward.socket)

            assert await reader.read() == b""
            assert forward.failure is not None
            assert forward.failure.code == 403
            writer.close()

    run(scenario())


def test_open_connections_end_with_the_forwarding() -> None:
    async def scenario() -> None:
        async with kubernetes_server() as server, echo() as to:
            async with forwarding(server, to) as forward:
                reader, writer = await asyncio.open_unix_connection(forward.socket)
                writer.write(b"a")
                await reader.readexactly(1)
            assert await reader.read() == b""
            writer.close()
            await settled(lambda: len(asyncio.all_tasks()) <= 4)

    run(scenario())
