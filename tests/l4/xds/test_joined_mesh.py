"""Services from objects and workloads from a discovery server make the registry that all objects make."""

from collections.abc import Iterable

import pytest
from hypothesis import given

from l4.config import manifest
from l4.config.documents import Document
from l4.config.source import Documents
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.discovery.pipeline import Discovered, Discovery
from l4.discovery.registry import Registry
from l4.discovery.workload import Health, usable
from l4.xds.joined_mesh import JoinedMesh
from tests.kit.served import Client, Served, assert_same_registry
from tests.l4.discovery.test_index import STEPS, Objects, assert_told

MESH = Mesh()
_SENT = {"Endpoints", "EndpointSlice", "Node"}
BESIDE = KINDS.reading({name: kind for name, kind in KINDS.items() if name[1] not in _SENT})


class Joined:
    """What a program knows that reads objects without those that a server sends, and follows the server."""

    def __init__(self, served: Served, *, reads_pods: bool = True) -> None:
        self._client = Client(served, MESH)
        self._discovery = Discovery(BESIDE, MESH)
        self.mesh = JoinedMesh(MESH)
        self._reads_pods = reads_pods

    def follow(self, documents: Iterable[Document]) -> Discovered:
        its = tuple(it for it in documents if self._reads_pods or it.key.kind != "Pod")
        self.mesh.arrive(self._client.receive())
        self.known = self._discovery.take(Documents(its))
        return self.mesh.take(self.known)

    def anew(self, served: Served) -> Registry:
        """What it knows, if everything comes at once."""
        mesh = JoinedMesh(MESH)
        mesh.arrive(Client(served, MESH).receive())
        return mesh.take(self.known).registry


def parse(text: str) -> tuple[Document, ...]:
    documents, problems = manifest.parse("mesh.yaml", text.encode())
    assert not problems
    return tuple(sorted(documents, key=lambda it: it.key))


def registry_of(text: str, *, reads_pods: bool = False) -> tuple[Registry, Registry]:
    """Return the registry that a server has, and that of a program which follows it."""
    served, documents = Served(MESH), parse(text)
    served.take(Documents(documents))
    return served.registry, Joined(served, reads_pods=reads_pods).follow(documents).registry


@given(STEPS)
def test_changes_one_by_one_give_what_all_objects_give(steps: list[list[tuple[str, str]]]) -> None:
    objects, state, served = Objects(), dict[str, str](), Served(MESH)
    joined, before = Joined(served), Registry()
    for step in ([], *steps):
        state.update(step)
        documents = objects.documents(state)
        served.take(Documents(documents))

        found = joined.follow(documents)

        assert found.registry == joined.anew(served)
        assert_same_registry(served.registry, found.registry)
        ours, theirs = served.registry.workloads, found.registry.workloads
        assert {uid: it.labels for uid, it in theirs.items() if "//Pod/" in uid} == {
            uid: it.labels for uid, it in ours.items() if "//Pod/" in uid
        }
        if found.update is not None:
            assert found.update.registry is found.registry
            assert_told(before, found.update)
        before = found.registry


AROUND = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: w, namespace: ns, labels: {istio.io/waypoint-for: all}}
spec: {gatewayClassName: x, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.9.0.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: app, namespace: ns, labels: {istio.io/use-waypoint: w}}
spec:
  clusterIP: 10.1.0.1
  selector: {app: a}
  ports: [{name: web, port: 80, targetPort: web}, {name: grpc-web, port: 90, targetPort: 9090}]
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata:
  name: app-1
  namespace: ns
  labels: {app: a, version: v2, tier: gold, istio.io/use-waypoint: w}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {serviceAccountName: app, nodeName: n, containers: [{ports: [{name: web, containerPort: 8080}]}]}
status: {podIP: 10.0.0.1, phase: Running, conditions: [{type: Ready, status: "True"}]}
"""
UID, HOST = "Kubernetes//Pod/ns/app-1", "app.ns.svc.cluster.local"


def test_a_service_is_as_its_object_says_and_its_endpoints_are_as_the_server_says() -> None:
    server, found = registry_of(AROUND + POD)

    ours, theirs = found.services[HOST], server.services[HOST]
    assert ours.ports == theirs.ports
    assert (ours.waypoint, ours.addresses) == (theirs.waypoint, theirs.addresses)
    assert [(it.workload.uid, it.ports, it.health) for it in ours.endpoints] == [
        (UID, {80: 8080, 90: 9090}, Health.READY)
    ]
    (workload,) = found.workloads.values()
    assert workload.metric_labels == server.workloads[UID].metric_labels
    assert (workload.tunnel_identity, workload.node) == (server.workloads[UID].tunnel_identity, "n")
    assert workload.waypoint == server.workloads[UID].waypoint
    assert (workload.labels["app"], workload.labels["version"], workload.has_all_labels) == ("a", "v2", False)
    assert "tier" not in workload.labels


def test_of_a_pod_that_is_read_all_is_known() -> None:
    server, found = registry_of(AROUND + POD, reads_pods=True)

    assert found.workloads[UID] == server.workloads[UID]
    assert found.workloads[UID].labels["tier"] == "gold"


def test_a_pod_that_is_read_and_not_sent_is_no_endpoint() -> None:
    joined = Joined(Served(MESH))

    found = joined.follow(parse(AROUND + POD)).registry

    assert dict(found.workloads) == {}
    assert found.services[HOST].endpoints == ()


def test_a_service_that_only_the_server_knows_is_left_out() -> None:
    served = Served(MESH)
    served.take(Documents(parse(AROUND + POD)))

    found = Joined(served).follow(parse(POD.removeprefix("\n---"))).registry

    assert dict(found.services) == {}
    assert found.service_at("10.1.0.1") is None


def test_a_terminating_pod_that_is_read_still_serves() -> None:
    text = AROUND + POD.replace("  labels:", "  deletionTimestamp: '2026-01-01T00:00:00Z'\n  labels:")

    assert usable(registry_of(text, reads_pods=True)[1].services[HOST].endpoints)


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: ns}
spec:
  hosts: [e.com]
  addresses: [192.0.2.9]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: RESOLUTION
"""


def test_what_a_server_leaves_out_of_entries_is_as_the_objects_say() -> None:
    for resolution in ("NONE", "DNS"):
        documents = parse(ENTRY.replace("RESOLUTION", resolution))
        expected = Served(MESH)
        expected.take(Documents(documents))

        found = Joined(Served(MESH)).follow(documents).registry

        assert found.services["e.com"] == expected.registry.services["e.com"]
        assert found.workload_at("192.0.2.9") is None


def test_labels_of_an_entrys_endpoints_are_known() -> None:
    text = ENTRY.replace("RESOLUTION", "STATIC") + "  endpoints: [{address: 192.0.2.1, labels: {tier: gold}}]"

    (endpoint,) = registry_of(text)[1].services["e.com"].endpoints

    assert endpoint.workload.labels == {"tier": "gold"}
    assert endpoint.workload.has_all_labels


def test_after_a_failure_everything_is_joined_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    served, documents = Served(MESH), parse(AROUND + POD)
    served.take(Documents(documents))
    joined = Joined(served)
    joined.follow(parse(AROUND))
    served.take(Documents(parse(AROUND)))
    with monkeypatch.context() as broken:
        broken.setattr(joined.mesh._index, "take", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            joined.follow(parse(AROUND))

    found = joined.follow(parse(AROUND))

    assert found.update is None
    assert dict(found.registry.workloads) == {}
