"""A short name for what a snapshot says; equal snapshots have equal names.

Clusters and workloads are many, and change one by one: each has a digest, and the sum of these takes part, so that a
change costs what changed.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from l4.discovery.workload import Workload
from waypoint.config.snapshot import ClusterConfig, Snapshot

_MODULUS = 1 << 256
_LENGTH = 12


class Version:
    """Of a snapshot, and of those that come of it by `follow`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._fixed = _fixed(snapshot)
        self._sum = sum(map(_of_cluster, snapshot.clusters.values()))
        self._sum += sum(map(_of_workload, snapshot.registry.workloads.values()))

    def follow(
        self,
        clusters: Iterable[tuple[ClusterConfig, ClusterConfig]],
        workloads: Iterable[tuple[Workload | None, Workload | None]],
    ) -> None:
        """Others are in the place of some; None before it came, and after it went."""
        for old, new in clusters:
            self._sum += _of_cluster(new) - _of_cluster(old)
        for before, after in workloads:
            self._sum += (_of_workload(after) if after is not None else 0) - (
                _of_workload(before) if before is not None else 0
            )

    def name(self, snapshot: Snapshot) -> str:
        digest = hashlib.sha256(self._fixed)
        digest.update(repr(snapshot.problems).encode())
        digest.update((self._sum % _MODULUS).to_bytes(32, "big"))
        return digest.hexdigest()[:_LENGTH]


def _fixed(snapshot: Snapshot) -> bytes:
    """Of what no endpoint changes."""
    digest = hashlib.sha256()
    for part in (sorted(snapshot.destinations.items(), key=lambda it: it[0]), snapshot.statuses):
        digest.update(repr(part).encode())
    open_to = sorted((it.hostname, it.networks) for it in snapshot.registry.services.values() if it.networks)
    digest.update(repr(open_to).encode())
    digest.update(repr((snapshot.has_gateway, snapshot.tells_client)).encode())
    return digest.digest()


def _of_cluster(config: ClusterConfig) -> int:
    return _number(repr(config))


def _of_workload(workload: Workload) -> int:
    labels, annotations = sorted(workload.labels.items()), sorted(workload.annotations.items())
    return _number(repr((replace(workload, labels={}, annotations={}), labels, annotations)))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
