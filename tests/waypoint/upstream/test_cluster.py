"""The endpoint of the next attempt."""

import asyncio
from dataclasses import replace
from random import Random

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName
from policies.balancing.endpoint import Endpoint, WorkloadLabels
from tests.kit.aio import run
from waypoint.config.snapshot import UNKNOWN_SERVICE, ClusterConfig
from waypoint.upstream.cluster import Cluster

ONE, TWO, THREE = (Endpoint(f"10.0.0.{n}", 9080, None, WorkloadLabels()) for n in (1, 2, 3))


def _cluster(*endpoints: Endpoint) -> Cluster:
    return Cluster(ClusterConfig(ClusterName("c"), UNKNOWN_SERVICE, 9080, AppProtocol.HTTP, endpoints))


def _picked(cluster: Cluster, avoid: set[Endpoint]) -> set[Endpoint]:
    roll = Random(1).random
    return {live.endpoint for _ in range(1000) if (live := cluster.pick(roll, avoid))}


def test_an_endpoint_to_avoid_is_never_picked_while_there_is_another() -> None:
    cluster = _cluster(ONE, TWO, THREE)
    cluster.endpoints[1].active = cluster.endpoints[2].active = 1000  # the one to avoid has the least to do

    assert _picked(cluster, {ONE}) == {TWO, THREE}
    assert _picked(cluster, {ONE, TWO}) == {THREE}


def test_when_all_were_tried_any_of_them_will_do() -> None:
    assert _picked(_cluster(ONE, TWO), {ONE, TWO}) == {ONE, TWO}
    assert _picked(_cluster(ONE), {ONE}) == {ONE}


def test_without_endpoints_there_is_none_to_pick() -> None:
    assert _picked(_cluster(), set()) == set()


def test_an_endpoint_that_cannot_be_reached_is_left_alone_until_a_trial_gets_through() -> None:
    now = 0.0
    config = ClusterConfig(ClusterName("c"), UNKNOWN_SERVICE, 9080, AppProtocol.HTTP, (ONE, TWO))
    cluster = Cluster(config, clock=lambda: now)
    [first, _] = cluster.endpoints

    first.noted(first, False)
    assert _picked(cluster, set()) == {TWO}
    assert cluster.trials() == []
    now = 1.5
    assert cluster.trials() == [first]
    assert cluster.trials() == []  # one at a time
    assert _picked(cluster, set()) == {TWO}

    cluster.note_trial(first, True)

    assert _picked(cluster, set()) == {ONE, TWO}


def test_when_no_endpoint_can_be_reached_all_are_tried() -> None:
    cluster = _cluster(ONE, TWO)

    for live in cluster.endpoints:
        live.noted(live, False)

    assert _picked(cluster, set()) == {ONE, TWO}


def test_an_unreachable_endpoint_that_is_gone_is_forgotten() -> None:
    now = 0.0
    config = ClusterConfig(ClusterName("c"), UNKNOWN_SERVICE, 9080, AppProtocol.HTTP, (ONE, TWO))
    cluster = Cluster(config, clock=lambda: now)
    cluster.endpoints[0].noted(cluster.endpoints[0], False)

    cluster.reconcile(replace(config, endpoints=(TWO,)))
    now = 100.0

    assert cluster.trials() == []


def test_the_first_answer_is_waited_for_also_when_another_configuration_comes_meanwhile() -> None:
    async def scenario() -> None:
        cluster = _cluster()
        first = cluster.answered = asyncio.Event()
        waiting = asyncio.create_task(cluster.first_answer(10))
        await asyncio.sleep(0)

        second = cluster.answered = asyncio.Event()
        first.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        second.set()
        await waiting
        assert not cluster.is_awaited

    run(scenario())


def test_the_first_answer_is_waited_for_no_longer_than_is_said() -> None:
    async def scenario() -> None:
        cluster = _cluster()
        cluster.answered = asyncio.Event()

        await cluster.first_answer(0.01)

        assert cluster.is_awaited

    run(scenario())
