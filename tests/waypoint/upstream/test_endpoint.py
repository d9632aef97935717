"""Exchanges that wait for a connection that is not ready yet."""

import asyncio

import pytest

from policies.balancing.endpoint import Endpoint
from policies.circuit import Circuit, CircuitLimits
from policies.connection_pool import DEFAULT_POOL
from tests.kit.aio import run
from waypoint.errors import UpstreamOverflow
from waypoint.http.client import Http1Client
from waypoint.http.settings import HttpSettings
from waypoint.upstream.endpoint import LiveEndpoint


def full() -> tuple[LiveEndpoint, Http1Client]:
    """An endpoint whose only connection, beyond which there may be none, is in use."""
    live = LiveEndpoint(Endpoint("10.0.0.1", 80, None), Circuit(CircuitLimits(max_connections=1)), DEFAULT_POOL, 0.0)
    client = Http1Client(HttpSettings(), on_free=lambda it, now: None, on_gone=live.gone)
    live.opening(client)
    return live, client


def test_a_connection_goes_to_who_waits_longest() -> None:
    async def scenario() -> None:
        live, client = full()
        first, second = [asyncio.create_task(live.wait(5)) for _ in range(2)]
        await asyncio.sleep(0)

        live.free(client, 1.0)
        assert await first is client
        assert not second.done()
        live.free(client, 2.0)

        assert await second is client
        assert live.idle == []

    run(scenario())


def test_one_that_breaks_before_its_turn_is_given_to_nobody() -> None:
    async def scenario() -> None:
        live, client = full()
        waiting = asyncio.create_task(live.wait(5))
        await asyncio.sleep(0)

        live.free(client, 1.0)
        live.gone(client)

        assert await waiting is None
        assert live.may_connect
        assert live.circuit.connections == 0

    run(scenario())


@pytest.mark.parametrize("is_freed", [True, False])
def test_what_comes_to_who_gives_up_in_that_moment_goes_to_the_next(is_freed: bool) -> None:
    async def scenario() -> None:
        live, client = full()
        first, second = [asyncio.create_task(live.wait(5)) for _ in range(2)]
        await asyncio.sleep(0)

        if is_freed:
            live.free(client, 1.0)
        else:
            live.gone(client)
        first.cancel()

        assert await second is (client if is_freed else None)
        with pytest.raises(asyncio.CancelledError):
            await first

    run(scenario())


def test_nobody_waits_for_ever() -> None:
    async def scenario() -> None:
        live, client = full()

        with pytest.raises(UpstreamOverflow):
            await live.wait(0.01)

        live.free(client, 1.0)
        assert live.idle == [client]

    run(scenario())
