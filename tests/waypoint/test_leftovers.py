"""Everything that belongs to a client is freed when it leaves, without waiting for the garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from l4.hbone.driver import Driver
from l4.hbone.tunnel import Tunnel
from tests.kit.aio import run
from tests.kit.mesh import address, manifests, mesh, settled
from tests.kit.origin import answering, origin
from waypoint.exchange import Exchange
from waypoint.http.client import Http1Client
from waypoint.http.h1_request import RequestReader
from waypoint.http.h1_response import ResponseReader
from waypoint.http.server import Http1Server

KINDS = (Driver, Tunnel, Http1Server, Http1Client, RequestReader, ResponseReader, Exchange)
BODY = bytes(300_000)


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> list[str]:
    return [type(it).__name__ for it in gc.get_objects() if isinstance(it, KINDS)]


@pytest.mark.parametrize(
    ("request_", "answer_bytes"),
    [
        (b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n", len(BODY)),
        (b"GET / HTTP/1.1\r\nHost: app\r\n\r\n", 1000),
        (b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 9\r\n\r\nhalf", 0),
        (b"GET / HTTP/1.1\r\nHost: a", 0),
        (b"GET / HTTP/1.1\r\nHost: app\r\nHost: app\r\n\r\n", 12),
    ],
    ids=["whole", "half an answer", "half a body", "half a head", "refused"],
)
def test_nothing_is_left_of_a_client_that_has_gone(tmp_path: Path, request_: bytes, answer_bytes: int) -> None:
    async def scenario() -> None:
        waypoint, vip, pod = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod}).replace("ambient.istio.io/redirection", "x")
        async with mesh(tmp_path, text, waypoint) as it, origin(pod, answering(BODY)) as seen:
            reader, writer = await it.tunnel(f"{vip}:9080")
            writer.write(request_)
            await reader.readexactly(answer_bytes)
            if request_.endswith(b"half"):
                await settled(lambda: bool(seen.heads))
            writer.transport.abort()
            for pool in it.pools.values():
                await pool.close()
            it.clusters.close()
            del reader, writer
            await settled(lambda: it.server.connection_count == 0 and it.path.exchanges == 0)

            await settled(lambda: not alive())

    with no_collector():
        run(scenario())
