"""What the workers of a replica count together, so that limits hold for the replica and not for each worker.

The supervisor makes the memory. Each worker has a `Replica`; a waypoint with one worker has none, and counts by itself.
A worker that ends gives back what it held of destinations; the tokens that it took stay taken, and the endpoints that
it ejected stay ejected. Another replica, or the successor at a hand-over, has memory of its own.
"""

import logging
from collections.abc import Mapping

from l4.net.shared_memory import SharedMemory
from l4.readiness import Readiness
from l4.telemetry.metrics import MeshMetrics, gauge
from l4.telemetry.samples import Merging
from policies import retry_budget, shared_buckets, shared_outliers
from policies.attributes import ClusterName
from policies.rate_limit import MAX_BUCKETS
from policies.shared_buckets import SharedBuckets, Table
from policies.shared_counts import SharedCounts
from policies.shared_outliers import SharedOutliers
from policies.shared_rows import CELL_BYTES, Rows

log = logging.getLogger(__name__)

_ROWS = 1 << 14
"""Rules with buckets, and destinations, that can be counted together."""
LIMITS_OF_EACH_WORKER = gauge(
    "pywaypoint_limits_of_each_worker",
    "Limits that each worker holds alone, at its share, because the shared memory has no room for them.",
    ("limit",),
    Merging.MAX,
)
WORKER_SILENT = gauge(
    "pywaypoint_worker_silent",
    "Whether a worker does not answer, with `--workers`: 1 if its figures are the last that it told, else 0.",
    ("worker",),
    Merging.MAX,
)


class Replica:
    """The memory as worker number `own`, from 0, of `workers` sees it. It is of `size` bytes."""

    def __init__(self, memory: SharedMemory, own: int, workers: int) -> None:
        self.workers = workers
        sizes = _sizes(workers)
        parts, start = [], 0
        for size in sizes.values():
            parts.append(memory.view[start : start + size])
            start += size
        rules, self._tables, destinations, endpoints, supervisor = parts
        self._supervisor = supervisor.cast("q")
        self._rules = Rows(rules, own, workers, workers * shared_buckets.ROW_CELLS, memory.locked)
        self._destinations = Rows(destinations, own, workers, workers * retry_budget.SHARED, memory.locked)
        self._endpoints = Rows(endpoints, own, workers, shared_outliers.ROW_CELLS, memory.locked)
        self._joined: dict[ClusterName, tuple[int, SharedCounts]] = {}
        self._told = 0

    @staticmethod
    def size(workers: int) -> int:
        """Return how many bytes the workers need. Only what is used takes memory."""
        return sum(_sizes(workers).values())

    @property
    def supervisor_bytes(self) -> int:
        """Memory in use by the supervisor, which writes it; a number of eight bytes is written as a whole."""
        return self._supervisor[0]

    @supervisor_bytes.setter
    def supervisor_bytes(self, used: int) -> None:
        self._supervisor[0] = used

    def share_of_memory(self, limit: int) -> int:
        """Return a worker's share, in bytes, of what the supervisor leaves of the replica's limit; at least 1."""
        return max(1, (limit - self.supervisor_bytes) // self.workers)

    def buckets(self) -> SharedBuckets:
        """Return the buckets of the replica."""
        return SharedBuckets(self._rules, self._tables)

    def join(self, name: ClusterName) -> SharedCounts | None:
        """Return what workers count together of a destination, or None if there is no room. `leave` ends it."""
        payload = self._destinations.join(name)
        if payload is None:
            return None
        counts = SharedCounts(self._destinations, payload, retry_budget.SHARED)
        self._joined[name] = payload, counts
        return counts

    def leave(self, name: ClusterName) -> None:
        """The destination is gone. Its counts are no longer of the replica."""
        self._destinations.give_up(name)
        if name in self._joined:
            payload, counts = self._joined.pop(name)
            for which in range(retry_budget.SHARED):
                counts.put(which, 0)
            self._destinations.leave(payload)

    def outliers(self, name: ClusterName) -> SharedOutliers | None:
        """Return what workers see together of a destination's endpoints, or None if there is no room."""
        first = self._endpoints.join(name)
        return None if first is None else SharedOutliers(self._endpoints, name, first)

    def judge_alone(self, name: ClusterName) -> None:
        """The destination, for which there was no room, is gone or is not judged any more."""
        self._endpoints.give_up(name)

    @property
    def has_missed_destinations(self) -> bool:
        """Whether `join` would have found room, had it got the lock."""
        return bool(self._destinations.missed)

    @property
    def has_missed_endpoints(self) -> bool:
        """Whether `outliers` or their endpoints would have found room, had they got the lock."""
        return bool(self._endpoints.missed)

    def forget(self, worker: int) -> None:
        """Give back what a worker held that has ended. Its number is from 0."""
        self._rules.forget(worker, range(0))
        self._endpoints.forget(worker, range(0))
        own = worker * retry_budget.SHARED
        self._destinations.forget(worker, range(own, own + retry_budget.SHARED))

    def tell(self, metrics: MeshMetrics, readiness: Readiness) -> None:
        """Say what is not counted together."""
        refused = self._refused()
        for name, number in refused.items():
            metrics.of(LIMITS_OF_EACH_WORKER).labels((name,)).value = number
        total = sum(refused.values())
        if total == self._told:
            return
        self._told = total
        words = ", ".join(f"{number} of {name}" for name, number in refused.items() if number)
        sentence = f"too many limits to count for all workers together; each worker has its share of {words}"
        readiness.concern("limits", sentence if total else "")
        log.warning("%s", sentence if total else "all limits are counted for all workers together again")

    def _refused(self) -> Mapping[str, int]:
        return {
            "rate limits": self._rules.alone,
            "destinations": self._destinations.alone,
            "endpoints with outlier detection": self._endpoints.alone,
        }


def _sizes(workers: int) -> dict[str, int]:
    return {
        "rules": Rows.size(_ROWS, workers, workers * shared_buckets.ROW_CELLS),
        "tables": Table.size(MAX_BUCKETS // workers * workers),
        "destinations": Rows.size(_ROWS, workers, workers * retry_budget.SHARED),
        "endpoints": Rows.size(_ROWS, workers, shared_outliers.ROW_CELLS),
        "supervisor": CELL_BYTES,
    }
