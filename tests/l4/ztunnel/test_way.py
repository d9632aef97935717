"""Connections out of a pod when an endpoint is dead, dies, or is silent: another one is used, at once and later."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.discovery.workload import TunnelProtocol, Workload
from l4.ztunnel.reaches import MAX_REMEMBERED, Reaches
from tests.kit.aio import run
from tests.kit.black_hole import black_hole
from tests.kit.mesh import settled, with_settings
from tests.kit.node import HBONE_PORT, World, ask, world
from tests.kit.workloads import pod, registry, service


@asynccontextmanager
async def two_endpoints(
    folder: Path, settings: Settings | None = None, *, is_plain: bool = False
) -> AsyncIterator[tuple[World, Workload]]:
    """A service of the echoing server and of a pod at an address where nobody listens."""
    async with world(folder, settings) as it:
        dead = pod("dead", it.address(3), node="elsewhere", speaks_hbone=not is_plain)
        if is_plain:
            it.server = replace(it.server, tunnel_protocol=TunnelProtocol.NONE, is_redirected=False)
        it.apply(_known(it, dead))
        yield it, dead


def _known(it: World, *others: Workload) -> Registry:
    return registry(it.client, it.server, *others, service("echo", it.vip, ports={80: 8080}, pods=[it.server, *others]))


@pytest.mark.parametrize("is_plain", [False, True], ids=["tunnels", "plain"])
def test_an_endpoint_that_refuses_costs_nobody_his_connection(tmp_path: Path, is_plain: bool) -> None:
    async def scenario() -> None:
        async with two_endpoints(tmp_path, is_plain=is_plain) as (it, _):
            answers = [await ask(it.entry, b"hello") for _ in range(20)]

            assert answers == [b"hello|end"] * 20
            await settled(lambda: it.node.traffic.open_count == 0)
            refused = it.counted("istio_tcp_connections_closed", "source").get("CONNECT", 0)
            assert refused <= 2  # a second one only if all this took longer than the first pause

    run(scenario())


def test_an_endpoint_that_drops_packets_costs_its_wait_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_endpoints(tmp_path, with_settings(connect_seconds=1.5)) as (it, dead):
            with black_hole(dead.addresses[0], HBONE_PORT):
                loop, longest = asyncio.get_running_loop(), []
                for _ in range(20):
                    began = loop.time()
                    assert await ask(it.entry, b"hello") == b"hello|end"
                    longest.append(loop.time() - began)

                assert sum(seconds > 1.4 for seconds in longest) <= 1

    run(scenario())


def test_an_endpoint_that_is_back_is_used_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_endpoints(tmp_path) as (it, dead):
            address = (dead.addresses[0], HBONE_PORT)
            while not it.node.reaches.is_avoided(address):
                await ask(it.entry, b"hello")

            with socket.create_server(address):
                await settled(lambda: not it.node.reaches.is_avoided(address), 10)

    run(scenario())


def test_when_all_are_known_to_be_unreachable_they_are_tried_nevertheless(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_endpoints(tmp_path) as (it, dead):
            for ip in (*dead.addresses, *it.server.addresses):
                it.node.reaches.failed((ip, HBONE_PORT))

            assert await ask(it.entry, b"hello") == b"hello|end"

    run(scenario())


def test_a_tunnel_that_is_lost_before_anybody_has_used_it_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.apply(it.known())
            reader, writer = await asyncio.open_connection(*it.entry)
            pool = it.pods.proxies[it.client.uid].pool
            await settled(lambda: any(driver.tunnel_count for driver in pool.drivers))
            await asyncio.sleep(0.05)

            [old] = pool.drivers
            old.abort()
            await settled(lambda: old not in pool.drivers and any(driver.tunnel_count for driver in pool.drivers))
            writer.write(b"hello")
            writer.write_eof()

            assert await reader.read() == b"hello|end"
            writer.close()

    run(scenario())


def test_a_tunnel_that_has_carried_something_is_not_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.apply(it.known())
            reader, writer = await asyncio.open_connection(*it.entry)
            writer.write(b"hello")
            await reader.readexactly(5)

            for driver in it.pods.proxies[it.client.uid].pool.drivers:
                driver.abort()

            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    run(scenario())


def test_what_is_remembered_is_bounded() -> None:
    async def scenario() -> None:
        reaches = Reaches(lambda coroutine: coroutine.close(), 1.0)
        for number in range(MAX_REMEMBERED + 10):
            reaches.failed((f"10.0.{number >> 8}.{number & 255}", HBONE_PORT))

        assert len(reaches) == MAX_REMEMBERED
        assert not reaches.is_avoided(("10.0.0.0", HBONE_PORT))
        assert reaches.is_avoided(("10.0.0.10", HBONE_PORT))

    run(scenario())


def test_who_has_connected_before_the_end_began_is_carried(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.server = replace(it.server, tunnel_protocol=TunnelProtocol.NONE, is_redirected=False)
            it.apply(it.known())
            with socket.create_connection(it.entry) as sock:  # in the backlog: the loop has had no turn since
                draining = asyncio.ensure_future(it.pods.drain(10))
                reader, writer = await asyncio.open_connection(sock=sock)
                writer.write(b"hello")
                writer.write_eof()
                answer = await reader.read()
                writer.close()
            await draining

            assert answer == b"hello|end"

    run(scenario())
