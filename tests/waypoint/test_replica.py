"""What workers count together: two on the same memory, in one process."""

from collections.abc import Iterator

import pytest

from l4.net import shared_memory
from l4.net.shared_memory import SharedMemory
from l4.readiness import Readiness
from policies.attributes import Peer, RequestHead
from policies.rate_limit import Limit, RateLimits, RateRule
from waypoint.metrics import waypoint_metrics
from waypoint.replica import LIMITS_OF_EACH_WORKER, Replica

HEAD, PEER = RequestHead(b"GET", b"app", b"/", b"", []), Peer(None, "10.0.0.1", 1)


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    it = SharedMemory(shared_memory.create(Replica.size(2)))
    yield it
    it.close()


def test_workers_take_from_the_same_buckets_and_a_worker_that_ends_leaves_them(memory: SharedMemory) -> None:
    its = RateLimits("a policy", (RateRule("rule", "rule", Limit(3, 3.0, 1.0)),))
    first, second = (Replica(memory, own, 2).buckets() for own in range(2))
    for it in (first, second):
        it.keep(["rule"])

    quotas = [it.take(its, HEAD, PEER, 100.0) for it in (first, second)]
    Replica(memory, 0, 2).forget(0)
    quotas += [second.take(its, HEAD, PEER, 100.0) for _ in range(2)]

    assert [quota is not None and not quota.over for quota in quotas] == [True, True, True, False]


def test_what_finds_no_room_is_told_until_there_is_some(memory: SharedMemory, caplog: pytest.LogCaptureFixture) -> None:
    replica, metrics, readiness = Replica(memory, 0, 2), waypoint_metrics("test"), Readiness()
    buckets = replica.buckets()
    shown = metrics.of(LIMITS_OF_EACH_WORKER).labels(("rate limits",))

    buckets.keep(f"rule {number}" for number in range(20_000))
    replica.tell(metrics, readiness)

    assert shown.value > 3000
    assert f"its share of {shown.value} of rate limits" in readiness.concerns["limits"]
    assert len(caplog.messages) == 1
    buckets.keep(["rule 1"])
    buckets.keep(["rule 1"])
    replica.tell(metrics, readiness)
    assert shown.value == 0
    assert readiness.concerns == {}


def test_workers_share_the_memory_that_the_supervisor_leaves(memory: SharedMemory) -> None:
    supervisor, worker = Replica(memory, 0, 2), Replica(memory, 1, 2)

    supervisor.supervisor_bytes = 70
    assert worker.share_of_memory(500) == 215
    supervisor.supervisor_bytes = 600
    assert worker.share_of_memory(500) == 1  # everybody is turned away
