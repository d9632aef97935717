"""A client of our discovery server, without a connection between: it must know the mesh as the objects say it."""

from dataclasses import replace
from functools import partial

from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from l4.config.intake import Taken
from l4.config.source import Answer
from l4.discovery.capture import NO_CAPTURE
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.discovery.pipeline import Discovery
from l4.discovery.policy_objects import FollowedPolicies
from l4.discovery.registry import Registry
from l4.discovery.workload import GatewayAddress, Service, Workload, usable
from l4.discovery.workload_policies import WorkloadPolicies
from l4.xds import addresses, authorizations
from l4.xds.description import Describing
from l4.xds.discovered import Arrived, DiscoveredMesh, MeshState
from l4.xds.inbox import Kind
from l4.xds.offer import Offer
from l4.xds.resource import Sent
from l4.xds.subscription import Subscription
from policies.access import Access
from policies.attributes import Identity, Peer

_TYPES = {"deployment", "cronjob", "pod", "job"}


class Served:
    """The server's side: objects become offers of both types."""

    def __init__(self, mesh: Mesh) -> None:
        self._discovery = Discovery(KINDS, mesh)
        self._following = FollowedPolicies(mesh.trust_domains)
        self._describing = Describing(mesh)
        self.addresses, self.policies = Offer(addresses.TYPE), Offer(authorizations.TYPE)
        self.registry = Registry()
        self.effective: WorkloadPolicies | None = None

    def take(self, answer: Answer) -> Taken:
        known = self._discovery.take(answer)
        self.registry, self.effective = known.registry, self._following.take(known)
        self.description = described = self._describing.take(known.registry, known.update, self.effective)
        self.addresses.put(described.addresses)
        if described.policies is not None:
            self.policies.put(described.policies)
        return known.taken


class Client:
    """One that has everything."""

    def __init__(self, served: Served, mesh: Mesh) -> None:
        self._addresses = Kind(
            addresses.TYPE, partial(addresses.convert, mesh=mesh), addresses.name_of, is_policy=False
        )
        self._policies = Kind(authorizations.TYPE, authorizations.convert, authorizations.name_of, is_policy=True)
        everything = DeltaDiscoveryRequest()
        self._wanted = Subscription(served.addresses, everything), Subscription(served.policies, everything)
        self._mesh = DiscoveredMesh(mesh, lambda it: True)
        self.received = 0
        """Resources, altogether."""

    def follow(self) -> MeshState:
        """Receive what is lacking. Nothing may be refused."""
        return self._mesh.take(self.receive())

    def receive(self) -> Arrived:
        (changed, gone), (policies, gone_policies) = map(self._receive, self._wanted)
        read = {it.name: self._addresses.read(it) for it in changed}
        read_policies = {it.name: self._policies.read(it) for it in policies}
        return Arrived(read, gone, read_policies, gone_policies, ())

    def _receive(self, wanted: Subscription) -> tuple[list[Sent], list[str]]:
        lacking = wanted.lacking()
        if lacking is None:
            return [], []
        response = DeltaDiscoveryResponse.FromString(lacking.response("t", "1"))
        self.received += len(response.resources)
        sent = [Sent(it.name, it.version, it.resource.type_url, it.resource.value) for it in response.resources]
        return sent, list(response.removed_resources)


def assert_same(served: Served, state: MeshState, mesh: Mesh) -> None:
    """The client knows what the objects say, as far as messages can say it."""
    ours, theirs = served.registry, state.registry
    assert_same_registry(ours, theirs)
    assert served.effective is not None
    for uid, workload in ours.workloads.items():
        if uid in theirs.workloads:
            expected = _verdicts(served.effective, workload, ours)
            assert _verdicts(state.policies, theirs.workloads[uid], ours) == expected, uid
    assert not {it for it in state.problems if it not in theirs.problems}


def assert_same_registry(ours: Registry, theirs: Registry) -> None:
    """`theirs` says what `ours` does, as far as messages can say it."""
    named = {it.workload.uid for service in ours.services.values() for it in service.names}
    assert {uid: _said(it) for uid, it in theirs.workloads.items() if uid not in named} == {
        uid: _said(it) for uid, it in ours.workloads.items() if uid not in named
    }
    seen = {host: it for host, it in ours.services.items() if it.exported_to != frozenset()}
    assert {host: _service(it) for host, it in theirs.services.items()} == {
        host: _service(it) for host, it in seen.items()
    }
    assert {it: _uid(theirs.workload_at(it)) for it in _addresses(ours, theirs)} == {
        it: _uid(ours.workload_at(it)) for it in _addresses(ours, theirs)
    }
    assert {it: _host(theirs.service_at(it)) for it in _addresses(ours, theirs)} == {
        it: _host(ours.service_at(it)) for it in _addresses(ours, theirs)
    }


def _said(it: Workload) -> Workload:
    kind = it.workload_type if it.workload_type in _TYPES else "pod"
    return replace(
        it,
        labels={},
        has_all_labels=True,
        ports=(),
        capture=NO_CAPTURE,
        tells_client=False,
        is_leaving=False,
        authorization_policies=(),
        workload_type=kind,
        waypoint=_waypoint(it.waypoint),
    )


def _service(it: Service) -> object:
    endpoints = {endpoint.workload.uid: dict(endpoint.ports) for endpoint in usable(it.endpoints)}
    names = {(one.name, one.weight, one.workload.uid, *sorted(one.ports.items())) for one in it.names}
    ports = [
        (port.port, "http" if port.app_protocol.value == "grpc-web" else port.app_protocol.value) for port in it.ports
    ]
    return (
        (it.name, it.namespace, it.hostname, it.is_entry, it.networks, _waypoint(it.waypoint), it.subject_alt_names),
        endpoints,
        names,
        ports,
        it.exported_to is None,
        it.nearness,
    )


def _waypoint(it: GatewayAddress | None) -> GatewayAddress | None:
    """By a hostname a client does not learn the Gateway's name, and by an address not even its namespace."""
    if it is None:
        return None
    return replace(it, gateway="", bound_by="", namespace=it.namespace if it.hostname else "")


def _addresses(*registries: Registry) -> set[str]:
    found = {"10.3.1.1", "192.0.2.1"}
    for it in registries:
        found.update(address for workload in it.workloads.values() for address in workload.addresses)
        found.update(address for service in it.services.values() for address in service.addresses)
    return found


def _uid(it: Workload | None) -> str:
    return it.uid if it is not None else ""


def _host(it: Service | None) -> str:
    return it.hostname if it is not None else ""


def _verdicts(policies: WorkloadPolicies, workload: Workload, registry: Registry) -> list[bool]:
    """Of callers that policies may distinguish."""
    authorization = policies.of(workload)
    identities: set[Identity | None] = {it.identity for it in registry.workloads.values()}
    identities |= {None, Identity("cluster.local", "default", "a"), Identity("elsewhere", "admin", "b")}
    return [
        authorization is None or authorization.judge(Access(Peer(it, ip, 1), workload.addresses, port)).is_allowed
        for it in sorted(identities, key=str)
        for ip in ("10.0.0.1", "192.0.2.9", "fd00::1")
        for port in (80, 8080, 9080)
    ]
