from dataclasses import dataclass, field, replace

from l4.telemetry.source import SourceLabels, source_labels
from policies.attributes import Identity, Peer
from policies.balancing.endpoint import WorkloadLabels

PRODUCTPAGE = Identity("cluster.local", "default", "productpage")
LABELS = WorkloadLabels(
    workload="productpage-v1",
    namespace="default",
    principal=str(PRODUCTPAGE),
    app="productpage",
    version="v1",
    canonical_service="productpage",
    canonical_revision="v1",
    cluster="Kubernetes",
)
BAGGAGE = b"k8s.cluster.name=Other,k8s.namespace.name=said,k8s.deployment.name=a-v2,service.name=a,service.version=v2"


@dataclass(frozen=True)
class _Workload:
    identity: Identity = PRODUCTPAGE
    metric_labels: WorkloadLabels = LABELS


@dataclass(frozen=True)
class _Registry:
    workloads: dict[str, _Workload] = field(default_factory=lambda: {"10.0.0.1": _Workload()})

    def workload_at(self, ip: str) -> _Workload | None:
        return self.workloads.get(ip)


def test_a_known_workload_is_described_by_the_registry_whatever_its_baggage_says() -> None:
    labels = source_labels(Peer(PRODUCTPAGE, "10.0.0.1", 1), _Registry(), BAGGAGE)

    assert labels == LABELS


def test_a_workload_that_shows_another_identity_is_not_the_one_at_its_address() -> None:
    other = Identity("cluster.local", "default", "ratings")

    labels = source_labels(Peer(other, "10.0.0.1", 1), _Registry(), None)

    assert labels == WorkloadLabels(namespace="default", principal=str(other))


def test_a_principal_is_never_guessed_from_an_address() -> None:
    labels = source_labels(Peer(None, "10.0.0.1", 1), _Registry(), None)

    assert labels == replace(LABELS, principal="unknown")


def test_baggage_describes_an_unknown_workload_but_does_not_move_it_to_another_namespace() -> None:
    labels = source_labels(Peer(PRODUCTPAGE, "10.9.9.9", 1), _Registry(), BAGGAGE)

    assert labels == WorkloadLabels("a-v2", "default", str(PRODUCTPAGE), "a", "v2", "a", "v2", "Other")


def test_who_says_nothing_and_proves_nothing_is_unknown() -> None:
    assert source_labels(Peer(None, "10.9.9.9", 1), _Registry(), None) == WorkloadLabels()


def test_a_caller_keeps_its_labels_until_the_registry_changes() -> None:
    callers = SourceLabels()
    registry = _Registry()
    peer = Peer(PRODUCTPAGE, "10.0.0.1", 1)

    first = callers.find(peer, registry, None)
    again = callers.find(replace(peer, port=2), registry, None)
    later = callers.find(peer, _Registry({}), None)

    assert first is again
    assert later == WorkloadLabels(namespace="default", principal=str(PRODUCTPAGE))
