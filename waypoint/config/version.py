"""A short name for what a snapshot says; equal snapshots have equal names.

Clusters and workloads are many, and change one by one: each has a digest, and the sum of these takes part, so that a
change costs what changed.
"""

import hashlib
from collections.abc import Iterable

import msgspec

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
    places: dict[int, list[tuple[str, int]]] = {}
    for place, destination in sorted(snapshot.destinations.items(), key=lambda it: it[0]):
        places.setdefault(id(destination), []).append(place)
    for its in places.values():  # one that is found in several places is written once
        digest.update(repr((its, snapshot.destinations[its[0]])).encode())
    digest.update(repr(snapshot.statuses).encode())
    open_to = sorted((it.hostname, it.networks) for it in snapshot.registry.services.values() if it.networks)
    digest.update(repr(open_to).encode())
    digest.update(repr((snapshot.has_gateway, snapshot.tells_client)).encode())
    return digest.digest()


def _of_cluster(config: ClusterConfig) -> int:
    return _number(repr(config).encode())


_encode = msgspec.json.Encoder(order="deterministic").encode


def _of_workload(workload: Workload) -> int:
    """Encoded as JSON, which is ten times as fast as `repr`, and as good where each field has one type."""
    return _number(_encode(workload))


def _number(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest(), "big")
