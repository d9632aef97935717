"""The caller's attributes in metrics and logs.

Proven facts come first, then the registry, then the caller's own claims: the certificate's identity gives principal and
namespace; the registry describes the workload at the caller's address if it has the same identity; baggage fills in the
rest. A principal is never derived from an address.
"""

from dataclasses import replace
from typing import Protocol

from l4.telemetry.propagation import parse_baggage
from policies.attributes import Identity, Peer
from policies.balancing.endpoint import UNKNOWN_WORKLOAD, WorkloadLabels

MAX_CALLERS = 4096
UNKNOWN = UNKNOWN_WORKLOAD.workload


class IdentifiedWorkload(Protocol):
    @property
    def identity(self) -> Identity: ...
    @property
    def metric_labels(self) -> WorkloadLabels: ...


class WorkloadIndex(Protocol):
    """The part of the registry that this module needs."""

    def workload_at(self, ip: str, /) -> IdentifiedWorkload | None: ...


class SourceLabels:
    """Finds callers' labels, and caches them while the registry is the same object.

    Equal callers get the same object, so that data bound to it can be found by its id.
    """

    __slots__ = ("_found", "_registry")

    def __init__(self) -> None:
        self._registry: WorkloadIndex | None = None
        self._found: dict[tuple[Identity | None, str, bytes | None], WorkloadLabels] = {}

    def reconcile(self, registry: WorkloadIndex) -> None:
        """Let go of the old registry and of what was found in it, which otherwise the next caller does."""
        self._registry = registry
        self._found.clear()

    def find(self, peer: Peer, registry: WorkloadIndex, baggage: bytes | None) -> WorkloadLabels:
        if registry is not self._registry or len(self._found) >= MAX_CALLERS:
            self.reconcile(registry)
        key = (peer.identity, peer.ip, baggage)
        labels = self._found.get(key)
        if labels is None:
            labels = self._found[key] = source_labels(peer, registry, baggage)
        return labels


def source_labels(peer: Peer, registry: WorkloadIndex, baggage: bytes | None) -> WorkloadLabels:
    workload = registry.workload_at(peer.ip)
    principal = str(peer.identity) if peer.identity else UNKNOWN
    if workload is not None and (peer.identity is None or _is_same_account(workload.identity, peer.identity)):
        return replace(workload.metric_labels, principal=principal)
    return replace(_described(baggage or b"", peer.identity), principal=principal)


def _is_same_account(one: Identity, other: Identity) -> bool:
    return (one.namespace, one.service_account) == (other.namespace, other.service_account)


def _described(baggage: bytes, identity: Identity | None) -> WorkloadLabels:
    said = parse_baggage(baggage)
    service, revision = said.canonical_service or UNKNOWN, said.canonical_revision
    return WorkloadLabels(
        workload=said.workload or UNKNOWN,
        namespace=identity.namespace if identity else said.namespace or UNKNOWN,
        app=service,
        version=revision or UNKNOWN,
        canonical_service=service,
        canonical_revision=revision or UNKNOWN_WORKLOAD.canonical_revision,
        cluster=said.cluster or UNKNOWN,
    )
