"""Four replicas of a waypoint before an endpoint that fails everything: they ask it little more than clients do."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh

REPLICAS, CLIENTS, REQUESTS = 4, 32, 2000
ANSWER = b"HTTP/1.1 503 Not Now\r\nContent-Length: 5\r\n\r\nlater"
GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules: [{backendRefs: [{name: app, port: 9080}], retry: {codes: [503], attempts: 3}}]
"""
CAPTURED = ", annotations: {ambient.istio.io/redirection: enabled}"


def test_a_storm_of_retries_stays_within_a_fifth_of_what_was_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        pod, offered, asked = address(), itertools.count(), itertools.count()
        server = await asyncio.get_running_loop().create_server(lambda: Failing(asked), pod, 9080)
        async with server, AsyncExitStack() as stack:
            folders = [tmp_path / str(number) for number in range(REPLICAS)]
            for folder in folders:
                folder.mkdir()
            replicas = [await stack.enter_async_context(replica(folder, pod)) for folder in folders]

            await asyncio.gather(*(client(it, vip, offered) for it, vip in replicas for _ in range(CLIENTS)))

            assert REQUESTS < next(asked) <= 1.2 * REQUESTS

    run(scenario(), 60)


class Failing(asyncio.Protocol):
    """Answers 503, after a while. No task for a connection: each mesh looks whether it has left any behind."""

    def __init__(self, asked: Iterator[int]) -> None:
        self._asked = asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        next(self._asked)
        asyncio.get_running_loop().call_later(0.02, self._transport.write, ANSWER)


@asynccontextmanager
async def replica(folder: Path, pod: str) -> AsyncIterator[tuple[Mesh, str]]:
    waypoint, vip = address(), address()
    text = manifests(waypoint=waypoint, vip=vip, pods={"app-0": pod}, more=ROUTE).replace(CAPTURED, "")
    async with mesh(folder, text, waypoint) as it:
        yield it, vip


async def client(it: Mesh, vip: str, offered: Iterator[int]) -> None:
    """Asks until all clients together have asked as often as they should, so that none is left over for the end."""
    reader, writer = await it.tunnel(f"{vip}:9080")
    while next(offered) < REQUESTS:
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        await reader.readexactly(5)
    writer.close()
