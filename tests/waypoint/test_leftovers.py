"""Everything that belongs to a client is freed when it leaves, without waiting for the garbage collector.

So is everything of an old configuration when another is in force."""

import gc
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from l4.hbone.driver import Driver
from l4.hbone.tunnel import Tunnel
from tests.kit.aio import run
from tests.kit.mesh import address, manifests, mesh, settled
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import route
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


def test_nothing_is_left_of_an_old_configuration_whose_clients_stay(tmp_path: Path) -> None:
    async def scenario() -> None:
        waypoint, vip, pod = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
        async with mesh(tmp_path, text, waypoint) as it, origin(pod, answering(b"hello")):
            idle = [await it.tunnel(f"{vip}:9080") for _ in range(2)]
            for reader, writer in idle:
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                await reader.readuntil(b"hello")
            await settled(lambda: it.path.exchanges == 0)
            old = it.holder.current

            it.apply(text.replace("app-1", "app-2") + "---\n" + route("{backendRefs: [{name: app, port: 9080}]}"))

            assert it.holder.current.registry is not old.registry
            assert holders(old) == holders(old.registry, but=old) == []
            for destination in old.destinations.values():
                assert holders(destination, but=old.destinations) == []
            for _, writer in idle:
                writer.transport.abort()

    run(scenario())


def holders(value: object, but: object = None) -> list[str]:
    """The types of what refers to a value, other than the test itself and another value."""
    found = gc.get_referrers(value)
    return [
        type(it).__name__ for it in found if it is not but and not inspect.isframe(it) and not inspect.iscoroutine(it)
    ]
