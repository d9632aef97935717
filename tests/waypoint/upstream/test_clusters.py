"""Destinations of two workers on the same memory, in one process."""

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from random import Random

import pytest

from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol
from l4.net import shared_memory
from l4.net.shared_memory import SharedMemory
from l4.net.tasks import Tasks
from l4.readiness import Readiness
from policies.attributes import ClusterName
from policies.balancing.endpoint import Endpoint
from policies.circuit import CircuitLimits
from policies.outcome import Ending, Outcome
from policies.outlier import OutlierDetection
from tests.kit.aio import run
from waypoint.config.snapshot import UNKNOWN_SERVICE, ClusterConfig, Snapshot
from waypoint.metrics import waypoint_metrics
from waypoint.replica import Replica
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.clusters import Clusters
from waypoint.upstream.state import described, numbers

APP = ClusterName("app")


def snapshot(limit: int, *names: ClusterName) -> Snapshot:
    circuit = CircuitLimits(max_requests=limit)
    configs = (ClusterConfig(it, UNKNOWN_SERVICE, 9080, AppProtocol.HTTP, (), circuit=circuit) for it in names)
    return Snapshot("", Registry(), clusters={it.name: it for it in configs})


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    it = SharedMemory(shared_memory.create(Replica.size(2)))
    yield it
    it.close()


def workers(memory: SharedMemory) -> list[Clusters]:
    return [Clusters(Settings(), Tasks(), replica=Replica(memory, own, 2)) for own in range(2)]


def follow(all_clusters: list[Clusters], wanted: Snapshot) -> None:
    for it in all_clusters:
        it.reconcile(wanted)
        it.retire_unknown(wanted)


def test_a_limit_holds_for_both_workers_and_each_shows_what_both_have(memory: SharedMemory) -> None:
    async def scenario() -> None:
        both = workers(memory)
        follow(both, snapshot(2, APP))
        first, second = (it[APP] for it in both)

        assert [it.circuit.take_request() for it in (first, second, first)] == [True, True, False]
        for it in both:
            [state] = described(it, 0.0, None)
            assert state["circuit_breakers"]["rq"] == {"now": 2, "max": 2}  # type: ignore[index]
            assert numbers(it[APP]) == {"circuit_breakers.default.rq_open": 1}

        follow(both, snapshot(3, APP))
        assert [it.circuit.take_request() for it in (second, first)] == [True, False]
        for it in both:
            it.close()

    run(scenario())


def test_a_destination_that_is_gone_and_comes_back_counts_from_zero(memory: SharedMemory) -> None:
    async def scenario() -> None:
        both = workers(memory)
        follow(both, snapshot(1, APP))
        old = both[0][APP]
        assert old.circuit.take_request()
        follow(both[:1], snapshot(1))
        assert not both[1][APP].circuit.is_full, "the other worker follows later"
        follow(both[:1], snapshot(1, APP))

        assert both[1][APP].circuit.take_request()
        old.circuit.end_request()
        assert not both[0][APP].circuit.take_request(), "the old request is not of this destination"
        for it in both:
            it.close()

    run(scenario())


def test_destinations_without_room_get_their_share_until_there_is_room(memory: SharedMemory) -> None:
    async def scenario() -> None:
        many = [ClusterName(f"app-{number}") for number in range(17_000)]
        replica = Replica(memory, 0, 2)
        metrics, readiness = waypoint_metrics("test"), Readiness()
        clusters = Clusters(Settings(), Tasks(), replica=replica)
        clusters.reconcile(snapshot(8, *many))
        replica.tell(metrics, readiness)
        alone = [it for it in clusters if it.circuit.shared is None]

        assert alone
        assert {it.circuit.limits.max_requests for it in alone} == {4}
        assert f"its share of {len(alone)} of destinations" in readiness.concerns["limits"]
        last = snapshot(8, alone[0].config.name)
        clusters.reconcile(last)
        clusters.retire_unknown(last)
        clusters.reconcile(last)
        replica.tell(metrics, readiness)
        assert alone[0].circuit.shared is not None
        assert alone[0].circuit.limits.max_requests == 8
        assert readiness.concerns == {}
        clusters.close()

    run(scenario())


JUDGED = OutlierDetection(consecutive_5xx=4, interval=10, base_ejection=30, max_ejection_percent=50)
ENDPOINTS = tuple(Endpoint(f"10.0.0.{number}", 9080, None) for number in (1, 2))
FAILED = Outcome(Ending.RESPONSE, 500)


def judged(policy: OutlierDetection | None = JUDGED, endpoints: tuple[Endpoint, ...] = ENDPOINTS) -> Snapshot:
    config = ClusterConfig(APP, UNKNOWN_SERVICE, 9080, AppProtocol.HTTP, endpoints, outlier=policy)
    return Snapshot("", Registry(), clusters={APP: config})


def picked(cluster: Cluster) -> set[str]:
    roll = Random(1).random
    return {live.endpoint.ip for _ in range(100) if (live := cluster.pick(roll))}


def test_failures_that_both_workers_see_eject_an_endpoint_for_both(memory: SharedMemory) -> None:
    async def scenario() -> None:
        both = workers(memory)
        follow(both, judged())
        first, second = (it[APP] for it in both)
        for it in (first, second, first):
            it.record(it.endpoints[0], FAILED)
        assert picked(first) == picked(second) == {"10.0.0.1", "10.0.0.2"}

        second.record(second.endpoints[0], FAILED)

        assert picked(first) == picked(second) == {"10.0.0.2"}
        for _ in range(4):
            first.record(first.endpoints[1], FAILED)
        assert picked(first) == picked(second) == {"10.0.0.2"}, "no more than half may be ejected"
        assert [numbers(it)["outlier_detection.ejections_active"] for it in (first, second)] == [1, 1]

        follow(both, judged(None))
        assert picked(first) == picked(second) == {"10.0.0.1", "10.0.0.2"}
        follow(both, judged())
        assert picked(first) == picked(second) == {"10.0.0.1", "10.0.0.2"}
        for it in both:
            it.close()

    run(scenario())


def test_a_success_that_one_worker_sees_ends_the_row_of_failures_of_both(memory: SharedMemory) -> None:
    async def scenario() -> None:
        both = workers(memory)
        follow(both, judged())
        first, second = (it[APP] for it in both)
        for it in (first, second, first):
            it.record(it.endpoints[0], FAILED)
        second.record(second.endpoints[0], Outcome(Ending.RESPONSE, 200))

        for it in (first, second, first):
            it.record(it.endpoints[0], FAILED)

        assert picked(first) == {"10.0.0.1", "10.0.0.2"}
        for it in both:
            it.close()

    run(scenario())


def test_an_ejection_outlives_the_worker_that_began_it_and_ends_with_the_endpoint(memory: SharedMemory) -> None:
    async def scenario() -> None:
        both = workers(memory)
        follow(both, judged())
        first, second = (it[APP] for it in both)
        for _ in range(4):
            first.record(first.endpoints[0], FAILED)

        Replica(memory, 1, 2).forget(0)
        successor = Clusters(Settings(), Tasks(), replica=Replica(memory, 0, 2))
        follow([successor], judged())
        assert picked(successor[APP]) == picked(second) == {"10.0.0.2"}

        both = [successor, both[1]]
        follow(both, judged(endpoints=ENDPOINTS[1:]))
        follow(both, judged())
        assert picked(successor[APP]) == picked(second) == {"10.0.0.1", "10.0.0.2"}
        for it in both:
            it.close()

    run(scenario())


def test_who_missed_the_lock_joins_at_a_tick(memory: SharedMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        is_free = False
        monkeypatch.setattr(memory, "locked", lambda: nullcontext(is_free))
        both = workers(memory)
        wanted = judged()
        limited = replace(wanted.clusters[APP], circuit=CircuitLimits(max_requests=4))
        follow(both, replace(wanted, clusters={APP: limited}))
        assert [it[APP].circuit.limits.max_requests for it in both] == [2, 2]

        is_free = True
        async with asyncio.timeout(10):
            while any(it[APP].circuit.shared is None for it in both):  # noqa: ASYNC110 - ticks come each second
                await asyncio.sleep(0.05)

        first, second = (it[APP] for it in both)
        assert [it.circuit.take_request() for it in (first, second, first, first, second)] == [True] * 4 + [False]
        for it in (first, second, first, second):
            it.record(it.endpoints[0], FAILED)
        assert picked(first) == picked(second) == {"10.0.0.2"}
        for it in both:
            it.close()

    run(scenario())
