"""An object of a namespace that is neither the service's nor the waypoint's changes nothing for others, of any kind."""

from dataclasses import replace

import pytest

from l4.discovery.codes import DiscoveryCode
from policies.attributes import Identity, Peer, RequestHead
from policies.route import OrderedTable
from tests.kit.snapshots import compiled, documents_of
from waypoint.config.codes import ConfigCode
from waypoint.config.kinds import KINDS
from waypoint.config.snapshot import Destination, Snapshot

REVIEWS = "reviews.default.svc.cluster.local"
_MESH = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: WAYPOINT}
spec:
  gatewayClassName: pywaypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]
status: {addresses: [{type: Hostname, value: waypoint.WAYPOINT.svc.cluster.local}]}
---
apiVersion: v1
kind: Namespace
metadata:
  name: other
  labels: {istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: WAYPOINT}
---
apiVersion: v1
kind: Service
metadata:
  name: reviews
  namespace: default
  labels: {istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: WAYPOINT}
spec: {clusterIP: 10.96.0.1, selector: {app: reviews}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: api
  namespace: default
  labels: {istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: WAYPOINT}
spec:
  hosts: [api.example.com]
  addresses: [10.97.0.1]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1}]
---
apiVersion: v1
kind: Pod
metadata:
  {name: reviews-1, namespace: default, labels: {app: reviews}, annotations: {ambient.istio.io/redirection: enabled}}
spec: {serviceAccountName: reviews, containers: [{ports: [{containerPort: 80}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: outside-1, namespace: default, labels: {app: outside}}
spec: {containers: [{ports: [{containerPort: 80}]}]}
status: {podIP: 10.0.0.2}
"""
MESH = _MESH.replace("WAYPOINT", "default")

TARGET = "targetRefs: [{group: '', kind: Service, name: reviews}]"
PARENT = "parentRefs: [{group: '', kind: Service, name: reviews, namespace: default}]"
DELAY = "rules: [{abort: {httpStatus: 500, percentage: 100}}]"
VIRTUAL = "http: [{directResponse: {status: 418}}]"
# Each kind that may speak of a host, as another namespace would write it to take something over.
TAKING: dict[str, list[tuple[str, str]]] = {
    "HTTPRoute": [("gateway.networking.k8s.io/v1", f"{{{PARENT}, rules: [{{}}]}}")],
    "GRPCRoute": [("gateway.networking.k8s.io/v1", f"{{{PARENT}, rules: [{{}}]}}")],
    "TCPRoute": [
        ("gateway.networking.k8s.io/v1alpha2", f"{{{PARENT}, rules: [{{backendRefs: [{{name: a, port: 1}}]}}]}}")
    ],
    "TLSRoute": [
        (
            "gateway.networking.k8s.io/v1",
            f"{{{PARENT}, hostnames: [a.example], rules: [{{backendRefs: [{{name: a, port: 1}}]}}]}}",
        )
    ],
    "EnvoyFilter": [("networking.istio.io/v1alpha3", f"{{{TARGET}, configPatches: []}}")],
    "WasmPlugin": [("extensions.istio.io/v1alpha1", f"{{{TARGET}, url: 'oci://a.example'}}")],
    "TrafficExtension": [("extensions.istio.io/v1alpha1", f"{{{TARGET}, lua: {{inlineCode: a}}}}")],
    "Telemetry": [("telemetry.istio.io/v1", "{accessLogging: [{disabled: true}]}")],
    "ReferenceGrant": [("gateway.networking.k8s.io/v1beta1", "{from: [], to: []}")],
    "VirtualService": [
        ("networking.istio.io/v1", f"{{hosts: [{REVIEWS}], {VIRTUAL}}}"),
        ("networking.istio.io/v1", f"{{hosts: ['*.default.svc.cluster.local'], {VIRTUAL}}}"),
        ("networking.istio.io/v1", f"{{hosts: ['*.cluster.local', {REVIEWS}, api.example.com], {VIRTUAL}}}"),
    ],
    "DestinationRule": [
        (
            "networking.istio.io/v1",
            f"{{host: {host}, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 1}}}}}}}}",
        )
        for host in (REVIEWS, "'*.default.svc.cluster.local'", "api.example.com")
    ],
    "ServiceEntry": [
        ("networking.istio.io/v1", f"{{hosts: [{host}], addresses: [{address}], {more}}}")
        for more in ("resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 192.0.2.66}]",)
        for host, address in (
            (REVIEWS, "10.97.0.9"),
            ("api.example.com", "10.97.0.9"),
            ("a.evil.example", "10.96.0.1"),
            ("a.evil.example", "10.97.0.1"),
            ("a.evil.example", "10.97.0.1/32"),
            ("a.evil.example", "10.96.0.0/12"),
            ("'*.example.com'", "10.97.0.0/24"),
        )
    ],
    "WorkloadEntry": [
        (
            "networking.istio.io/v1",
            f"{{address: {address}, labels: {{app: reviews, networking.istio.io/tunnel: http}}}}",
        )
        for address in ("10.0.0.1", "10.0.0.2")
    ],
    "AuthorizationPolicy": [("security.istio.io/v1", f"{{{TARGET}, action: DENY, rules: [{{}}]}}")],
    "RequestAuthentication": [
        ("security.istio.io/v1", f"{{{TARGET}, jwtRules: [{{issuer: a, jwksUri: 'http://a.example/'}}]}}")
    ],
    "PeerAuthentication": [("security.istio.io/v1", "{mtls: {mode: STRICT}}")],
    "XBackendTrafficPolicy": [
        ("gateway.networking.x-k8s.io/v1alpha1", f"{{{TARGET}, retryConstraint: {{budget: {{percent: 1}}}}}}")
    ],
    "RateLimitPolicy": [("pywaypoint.dev/v1alpha1", f"{{{TARGET}, rules: [{{limit: {{requests: 1, unit: Hour}}}}]}}")],
    "FaultPolicy": [("pywaypoint.dev/v1alpha1", f"{{{TARGET}, {DELAY}}}")],
}
NOT_ABOUT_HOSTS = {
    *("Namespace", "Node", "Pod", "Service", "Endpoints", "EndpointSlice", "Gateway", "GatewayClass", "ConfigMap"),
}
"""Theirs are names of their own namespace, or they stand above namespaces."""


def taking(kind: str, number: int, namespace: str) -> str:
    version, spec = TAKING[kind][number]
    meta = f"{{name: a, namespace: {namespace}, creationTimestamp: '2030-01-01T00:00:00Z'}}"
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {meta}\nspec: {spec}\n"


def seen(snapshot: Snapshot, host: str) -> object:
    """What is done with requests to a host of somebody who is not of the other namespace."""
    destination = snapshot.destinations[host, 80]
    own = replace(destination, consumer_routes={}, consumer_opaque={})
    backends = [backend.cluster for route in own.routes.routes for backend in route.rule.backends]
    return own, [snapshot.clusters[name] for name in backends if name is not None]


def test_the_kinds_are_all_that_there_are() -> None:
    assert set(TAKING) | NOT_ABOUT_HOSTS == {kind for _, kind in KINDS}


@pytest.mark.parametrize(("kind", "number"), [(kind, it) for kind, its in TAKING.items() for it in range(len(its))])
def test_another_namespace_changes_nothing_for_others(kind: str, number: int) -> None:
    before = compiled(documents_of(mesh=MESH))

    after = compiled(documents_of(mesh=MESH, case=taking(kind, number, "other")))

    for host in (REVIEWS, "10.96.0.1", "api.example.com", "10.97.0.1"):
        assert seen(after, host) == seen(before, host), host
    for ip in ("10.0.0.1", "10.0.0.2"):
        assert after.registry.workload_at(ip) == before.registry.workload_at(ip)


@pytest.mark.parametrize("kind", ["HTTPRoute", "VirtualService"])
def test_routes_of_another_namespace_are_for_its_own_clients(kind: str) -> None:
    destination = compiled(documents_of(mesh=MESH, case=taking(kind, 0, "other"))).destinations[REVIEWS, 80]

    assert rule_for(destination, "other") == f"{kind} other/a {'http' if kind == 'VirtualService' else 'rules'}[0]"
    assert rule_for(destination, "default") == "None"


def test_an_address_of_a_service_is_no_workloads() -> None:
    """Where the waypoint is for workloads, too, an entry that claims the address is bound to it."""
    mesh = MESH.replace(
        "metadata: {name: waypoint, ", "metadata: {labels: {istio.io/waypoint-for: all}, name: waypoint, "
    )
    case = taking("WorkloadEntry", 0, "other").replace("address: 10.0.0.1", "ports: {http: 80}, address: 10.96.0.1")
    before = compiled(documents_of(mesh=mesh))

    after = compiled(documents_of(mesh=mesh, case=case))

    assert seen(after, "10.96.0.1") == seen(before, "10.96.0.1")
    assert after.registry.workload_at("10.96.0.1") is not None


def rule_for(destination: Destination, namespace: str) -> str:
    peer = Peer(Identity("cluster.local", namespace, "client"), "10.0.0.9", 40000)
    rule = destination.routes_for(peer).find(RequestHead(b"GET", b"reviews", b"/", b"", []), peer)
    return str(rule.source) if rule is not None else "404"


@pytest.mark.parametrize("kind", ["HTTPRoute", "VirtualService", "DestinationRule"])
def test_the_namespace_of_the_waypoint_speaks_for_everybody(kind: str) -> None:
    mesh = _MESH.replace("WAYPOINT", "infra")
    before = compiled(documents_of(mesh=mesh), gateway=("infra", "waypoint"))

    after = compiled(documents_of(mesh=mesh, case=taking(kind, 0, "infra")), gateway=("infra", "waypoint"))

    assert seen(after, REVIEWS) != seen(before, REVIEWS)


def test_an_owner_keeps_his_routes_whatever_others_write() -> None:
    own = taking("VirtualService", 0, "default").replace("418", "200")

    snapshot = compiled(documents_of(mesh=MESH, own=own, case=taking("VirtualService", 1, "other")))

    table = snapshot.destinations[REVIEWS, 80].routes
    assert isinstance(table, OrderedTable)
    assert [str(route.rule.source) for route in table.routes] == ["VirtualService default/a http[0]"]


def test_who_is_not_heard_is_told() -> None:
    case = "---\n".join(taking(kind, 0, "other") for kind in ("DestinationRule", "ServiceEntry"))

    problems = compiled(documents_of(mesh=MESH, case=case)).problems

    assert [(it.subject, it.field, it.code) for it in problems] == [
        ("DestinationRule other/a", "spec.host", ConfigCode.NOT_ENTITLED),
        ("ServiceEntry other/a", "spec.hosts[0]", DiscoveryCode.HOST_TAKEN),
    ]


def test_a_destination_rule_that_is_not_exported_is_told() -> None:
    case = taking("DestinationRule", 0, "default").replace("spec: {", "spec: {exportTo: [other], ")

    problems = compiled(documents_of(mesh=MESH, case=case)).problems

    assert [(it.field, it.code) for it in problems] == [("spec.exportTo", ConfigCode.NOT_ENTITLED)]


def test_what_is_not_exported_is_told() -> None:
    case = taking("VirtualService", 0, "default").replace("spec: {", "spec: {exportTo: [other], ")

    snapshot = compiled(documents_of(mesh=MESH, case=case))

    assert [(it.field, it.code) for it in snapshot.problems] == [("spec.exportTo", ConfigCode.NOT_ENTITLED)]
    assert rule_for(snapshot.destinations[REVIEWS, 80], "default") == "None"
