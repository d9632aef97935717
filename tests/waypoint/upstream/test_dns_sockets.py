"""Look-ups that are cancelled leave nothing open."""

import asyncio
import os

import dns.asyncresolver
import dns.exception
import pytest

from tests.kit.aio import run
from tests.kit.dns import name_server
from waypoint.upstream.dns_sockets import LookupSockets


def _sockets() -> int:
    paths = (os.path.realpath(f"/proc/self/fd/{descriptor}") for descriptor in os.listdir("/proc/self/fd"))
    return sum("socket:" in path for path in paths)


def _resolver(at: str) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    host, _, port = at.partition(":")
    resolver.nameservers, resolver.port = [host], int(port)
    resolver.lifetime = 1.0
    return resolver


def test_a_name_is_looked_up() -> None:
    async def scenario() -> None:
        async with name_server() as server:
            server.answers = {"one.example.com": ["10.0.0.1"]}

            answer = await _resolver(server.at).resolve("one.example.com", "A", backend=LookupSockets())

            assert [record.address for record in answer] == ["10.0.0.1"]

    run(scenario())


def test_a_name_server_that_is_away_is_waited_for_no_longer_than_is_said() -> None:
    async def scenario() -> None:
        async with name_server() as server:
            server.is_away = True
            before = _sockets()

            with pytest.raises(dns.exception.Timeout):
                await _resolver(server.at).resolve("one.example.com", "A", backend=LookupSockets())

            assert _sockets() == before

    run(scenario())


def test_a_look_up_that_is_cancelled_at_any_moment_leaves_no_socket() -> None:
    async def scenario() -> None:
        async with name_server() as server:
            server.is_away = True
            before = _sockets()
            for turns in range(20):
                looking = asyncio.create_task(
                    _resolver(server.at).resolve("one.example.com", "A", backend=LookupSockets())
                )
                for _ in range(turns):
                    await asyncio.sleep(0)
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
            await asyncio.sleep(0.05)

            assert _sockets() == before

    run(scenario())
