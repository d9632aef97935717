"""The version of a snapshot: a short digest of its content. Equal snapshots have equal versions.

Clusters and workloads are numerous and change one by one. The version includes the sum of their digests, so that an
update costs as much as the change.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import msgspec

from l4.discovery.registry import Moved
from l4.discovery.workload import Workload
from waypoint.config.snapshot import ClusterConfig, Destination, Snapshot

_MODULUS = 1 << 256
_LENGTH = 12


Destinations = Mapping[tuple[str, int], Destination]
T = TypeVar("T")


class Version:
    """The version of a snapshot and of snapshots derived from it with `follow`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._fixed = _fixed(snapshot)
        self._clusters = {name: _of_cluster(it) for name, it in snapshot.clusters.items()}
        self._sum = sum(self._clusters.values())
        self._sum += sum(map(_of_workload, snapshot.registry.workloads.values()))
        self._sum += _of_destinations(snapshot.destinations)

    def follow(self, clusters: Iterable[Moved[ClusterConfig]], workloads: Iterable[Moved[Workload]]) -> None:
        """Replace some clusters and workloads. None stands for one that did not exist or was removed."""
        for cluster in clusters:
            for name in {it.name for it in (cluster.before, cluster.after) if it is not None}:
                self._sum -= self._clusters.pop(name, 0)
            if cluster.after is not None:
                self._clusters[cluster.after.name] = digest = _of_cluster(cluster.after)
                self._sum += digest
        for workload in workloads:
            self._sum += _of(_of_workload, workload.after) - _of(_of_workload, workload.before)

    def follow_destinations(self, before: Destinations, after: Destinations) -> None:
        """The destinations that are others now."""
        self._sum += _of_destinations(after) - _of_destinations(before)

    def name(self, snapshot: Snapshot) -> str:
        digest = hashlib.sha256(self._fixed)
        digest.update(repr(snapshot.problems).encode())
        digest.update((self._sum % _MODULUS).to_bytes(32, "big"))
        return digest.hexdigest()[:_LENGTH]


def _fixed(snapshot: Snapshot) -> bytes:
    """Digest everything that endpoints do not affect."""
    digest = hashlib.sha256()
    digest.update(repr(snapshot.statuses).encode())
    open_to = sorted((it.hostname, it.networks) for it in snapshot.registry.services.values() if it.networks)
    digest.update(repr(open_to).encode())
    digest.update(repr((snapshot.has_gateway, snapshot.tells_client, snapshot.is_carried)).encode())
    return digest.digest()


def _of(digest: Callable[[T], int], it: T | None) -> int:
    return digest(it) if it is not None else 0


def _of_destinations(destinations: Destinations) -> int:
    """One that is found at several places is looked at once."""
    digests = {
        id(it): hashlib.sha256(repr(it).encode()).hexdigest()
        for it in {id(it): it for it in destinations.values()}.values()
    }
    return sum(_number(f"{host} {port} {digests[id(it)]}".encode()) for (host, port), it in destinations.items())


_encode = msgspec.json.Encoder(order="deterministic").encode
"""JSON is ten times as fast as `repr`, and as good where each field has one type."""


def _of_cluster(config: ClusterConfig) -> int:
    return _number(repr(replace(config, endpoints=())).encode() + _encode(config.endpoints))


def _of_workload(workload: Workload) -> int:
    return _number(_encode(workload))


def _number(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest(), "big")
