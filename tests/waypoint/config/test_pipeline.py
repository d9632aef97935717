"""A configuration built change by change equals the one that its objects compile to at once."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from l4.config import manifest
from l4.config.documents import Document
from l4.config.settings import Settings
from l4.config.source import Documents
from waypoint.config.pipeline import Compiled, Pipeline

GATEWAY = ("default", "waypoint")
OWN_IP = "10.0.0.9"
SETTINGS = Settings()
IPS = ("10.0.0.1", "10.0.0.2", "10.0.0.3", OWN_IP)

State = Mapping[str, str]
"""Objects as YAML, by any name; empty where there is none."""

AROUND = """
{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {istio.io/use-waypoint: waypoint}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: other}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: default}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]
---
{apiVersion: v1, kind: Service, metadata: {name: a},
 spec: {clusterIP: 10.1.0.1, ports: [{port: 80, targetPort: web}], selector: {app: a}}}
---
{apiVersion: v1, kind: Service, metadata: {name: b},
 spec: {clusterIP: 10.1.0.2, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: c, namespace: other},
 spec: {clusterIP: 10.1.0.3, ports: [{port: 80}], selector: {app: a, tier: x}, publishNotReadyAddresses: true}}
---
{apiVersion: v1, kind: Service, metadata: {name: d},
 spec: {ports: [{port: 80}, {port: 90, appProtocol: tcp}], selector: {tier: x}, trafficDistribution: PreferClose}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{group: "", kind: Service, name: a}]
  rules: [{backendRefs: [{name: a, port: 80}, {name: d, port: 80}, {name: c, namespace: other, port: 80}]}]
"""

POLICIES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a
  trafficPolicy:
    connectionPool: {tcp: {tcpKeepalive: {time: 5s}}}
    outlierDetection: {consecutive5xxErrors: 3}
    loadBalancer: {consistentHash: {httpHeaderName: x}}
  subsets: [{name: x, labels: {tier: x}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec: {targetRefs: [{kind: Service, group: "", name: a}], rules: [{from: [{source: {namespaces: [default]}}]}]}
---
apiVersion: pywaypoint.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: limit}
spec:
  targetRefs: [{group: "", kind: Service, name: a}]
  scope: DividedByReplicas
  rules: [{limit: {requests: 12, unit: Minute}}]
"""

VIRTUAL = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: d}
spec:
  hosts: [d]
  http:
  - {match: [{sourceLabels: {app: a}}], route: [{destination: {host: a, subset: x, port: {number: 80}}}]}
  - {route: [{destination: {host: d, port: {number: 80}}}]}
"""


def pod(
    name: str,
    ip: str = IPS[0],
    app: str = "a",
    tier: str = "x",
    status: str = "True",
    node: str = "n1",
    extra: str = "",
    spec: str = "",
    **metadata: str,
) -> str:
    fields = "".join(f", {key}: '{value}'" for key, value in metadata.items())
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}, tier: {tier}{extra}}}{fields},
           annotations: {{ambient.istio.io/redirection: enabled}}}}
spec: {{nodeName: {node}{spec}, containers: [{{name: x, ports: [{{name: web, containerPort: 8080}}]}}]}}
status: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: "{status}"}}]}}
"""


def sliced(name: str, service: str, *endpoints: str) -> str:
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}, {{name: "", port: 8081}}]
endpoints: [{", ".join(endpoints)}]
"""


def behind(ip: str, ready: str = "true", terminating: str = "false", target: str = "") -> str:
    reference = f", targetRef: {{kind: Pod, name: {target}}}" if target else ""
    conditions = f"{{ready: {ready}, serving: true, terminating: {terminating}}}"
    return f"{{addresses: [{ip}], conditions: {conditions}, nodeName: n2{reference}}}"


def node(name: str, zone: str) -> str:
    labels = f"{{topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}}}"
    return f"{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {labels}}}}}"


_PODS = st.one_of(
    st.just(""),
    st.builds(
        pod,
        st.just("NAME"),
        ip=st.sampled_from(IPS),
        app=st.sampled_from("ab"),
        tier=st.sampled_from("xy"),
        status=st.sampled_from(("True", "False")),
        node=st.sampled_from(("n1", "n2")),
        extra=st.sampled_from(
            (
                "",
                "",
                "",
                ", gateway.networking.k8s.io/gateway-name: waypoint",
                ", istio.io/use-waypoint: waypoint",
                ", istio.io/use-waypoint: nowhere",
                ", istio.io/use-waypoint: none",
            )
        ),
        spec=st.sampled_from(("", "", "", ", hostNetwork: true")),
    ),
    st.just(pod("NAME", deletionTimestamp="2026-01-01T00:00:00Z")),
    st.just(pod("NAME").replace("Running", "Succeeded")),
    st.just(pod("NAME", IPS[1], namespace="other")),
)
_ENDPOINT = st.builds(
    behind,
    st.sampled_from((*IPS, "10.0.7.7")),
    st.sampled_from(("true", "false")),
    st.sampled_from(("true", "false")),
    st.sampled_from(("", "", "p1", "p2")),
)
_SLICES = st.one_of(
    st.just(""),
    st.builds(
        lambda service, its: sliced("NAME", service, *its), st.sampled_from("abd"), st.lists(_ENDPOINT, max_size=3)
    ),
)
_OTHERS: dict[str, tuple[str, ...]] = {
    "node": (node("n1", "z1"), node("n1", "z2"), ""),
    "policies": (POLICIES, ""),
    "virtual": ("", VIRTUAL),
    "all": (
        "",
        "{apiVersion: v1, kind: Namespace, metadata: {name: other, labels: {istio.io/use-waypoint: waypoint, "
        "istio.io/use-waypoint-namespace: default}}}",
    ),
    "gateway": (
        "",
        "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: istio-waypoint, "
        "labels: {istio.io/waypoint-for: all}}, spec: {controllerName: x}}",
    ),
    "mirrored": (
        "",
        "{apiVersion: v1, kind: Endpoints, metadata: {name: b}, subsets: [{addresses: [{ip: 10.0.0.1}, {ip: 10.0.9.9}],"
        " ports: [{name: http, port: 8080}]}]}",
    ),
    "workload": (
        "",
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w}, "
        "spec: {address: 10.0.0.2, labels: {app: a}}}",
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w}, "
        "spec: {address: w.example.com, labels: {app: a}}}",
    ),
    "entry": (
        "",
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e}, spec: {hosts: [e.com], "
        "addresses: [10.2.0.1], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, "
        "endpoints: [{address: 10.0.0.1}, {address: 10.0.5.5}]}}",
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e}, spec: {hosts: [e.com], "
        "addresses: [10.2.0.1], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, "
        "workloadSelector: {labels: {app: b}}}}",
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e}, spec: {hosts: [e.com], "
        "addresses: [10.0.0.3], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}}",
    ),
    "service": (
        "",
        *(
            f"{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}"
            f", spec: {{clusterIP: {ip}, ports: [{ports}], selector: {{app: a}}}}}}"
            for name, namespace, labels, ip, ports in (
                ("e", "default", "", "10.1.0.9", "{port: 80}"),
                ("e", "default", "", "10.1.0.9", "{port: 80}, {port: 81, appProtocol: tcp}"),
                ("e", "default", "", "10.1.0.8", "{port: 80, appProtocol: http}"),
                ("e", "default", "istio.io/use-waypoint: none", "10.1.0.8", "{port: 80}"),
                ("e", "default", "istio.io/use-waypoint: nowhere", "10.1.0.8", "{port: 80}"),
                ("e", "default", "", "10.0.0.1", "{port: 8080}"),
                ("e", "other", "", "10.1.0.9", "{port: 80}"),
                ("e", "default", "", "10.1.0.1", "{port: 80}"),
                ("f", "default", "", "10.1.0.9", "{port: 80}"),
            )
        ),
    ),
    "speaks": (
        "",
        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: s}, spec: {parentRefs: "
        "[{group: '', kind: Service, name: a}], rules: [{backendRefs: [{name: f, port: 80}]}]}}",
        "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: s}, spec: {hosts: "
        "['*.svc.cluster.local'], http: [{route: [{destination: {host: d, port: {number: 80}}}]}]}}",
        "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: s}, spec: {host: "
        "'*.default.svc.cluster.local', trafficPolicy: {loadBalancer: "
        "{localityLbSetting: {failover: [{from: a, to: b}]}}}}}",
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: s}, spec: {targetRefs: "
        "[{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}], rules: [{}]}}",
    ),
    "broken": ("", "{apiVersion: v1, kind: Pod, metadata: {name: p9}, status: {podIP: 7}}", pod("p9", IPS[2])),
    "misspelled": ("", "{apiVersion: security.istio.io/v1, kind: AuthorizationPolice, metadata: {name: p}}"),
}
_FIXED = st.sampled_from(sorted(_OTHERS)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(_OTHERS[name])))
_NAMED = st.one_of(
    st.tuples(st.sampled_from(("p1", "p2", "p3", "p4")), _PODS),
    st.tuples(st.sampled_from(("p1", "p2", "p3", "p4")), _PODS),
    st.tuples(st.sampled_from(("s1", "s2", "s3")), _SLICES),
)
_EDIT = st.one_of(_NAMED, _NAMED, _NAMED, _FIXED).map(lambda it: (it[0], it[1].replace("NAME", it[0])))
_STEPS = st.lists(st.lists(_EDIT, min_size=1, max_size=3), min_size=2, max_size=7)


class Files:
    """Documents of objects, of which those stay the same that are written the same."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], list[Document]] = {}

    def documents(self, state: State) -> Documents:
        found: dict[Any, Document] = {}
        for name, text in {"around": AROUND, **state}.items():
            if (name, text) not in self._read:
                self._read[name, text] = manifest.parse(f"{name}.yaml", text.encode())[0]
            found |= {it.key: it for it in self._read[name, text]}
        return Documents(tuple(sorted(found.values(), key=lambda it: it.key)))


def fresh(pipeline: Pipeline) -> Pipeline:
    """It remembers the last valid versions of objects, and nothing that it could save work by."""
    pipeline._kept = None
    pipeline._discovery._intake._decoder._documents = None
    pipeline._discovery._index = None
    return pipeline


def said(compiled: Compiled) -> object:
    registry = compiled.snapshot.registry
    bound_by = [it.waypoint and it.waypoint.bound_by for it in registry.workloads.values()]
    resources = {kind: compiled.resources.of(kind) for kind in compiled.resources._by_type}
    return (
        compiled.snapshot,
        list(registry.workloads),
        list(registry.services),
        bound_by,
        resources,
        compiled.taken.ignored,
        set(compiled.doubts),
        compiled.taken.is_understood,
    )


@example([[("p1", pod("p1"))], [("p1", pod("p1", status="False"))], [("p1", "")]])
@example([[("p1", pod("p1", tier="y"))], [("s1", sliced("s1", "b", behind(IPS[0])))], [("p2", pod("p2", app="b"))]])
@example(
    [
        [("gateway", _OTHERS["gateway"][1]), ("p1", pod("p1")), ("s1", sliced("s1", "b", behind(IPS[0])))],
        [("p1", pod("p1", status="False"))],
        [("s1", sliced("s1", "b"))],
    ]
)
@example([[("service", it)] for it in _OTHERS["service"]])
@example([[("speaks", speaks), ("service", it)] for speaks in _OTHERS["speaks"] for it in _OTHERS["service"][:4]])
@example([[("gateway", _OTHERS["gateway"][1]), ("p1", pod("p1"))], *([("service", it)] for it in _OTHERS["service"])])
@example([[("s1", sliced("s1", "a", behind(IPS[0])))], [("s1", sliced("s1", "b", behind(IPS[0])))]])
@given(_STEPS)
@settings(max_examples=150)
def test_changes_one_by_one_give_what_all_objects_give_at_once(steps: list[list[tuple[str, str]]]) -> None:
    files, state = Files(), dict[str, str]()
    followed, anew = (Pipeline(GATEWAY, SETTINGS, OWN_IP) for _ in range(2))

    for step in steps:
        state.update(step)
        documents = files.documents(state)

        assert said(followed.compile(documents)) == said(fresh(anew).compile(documents))


def compiled(*states: State) -> list[Compiled]:
    files, pipeline = Files(), Pipeline(GATEWAY, SETTINGS)
    return [pipeline.compile(files.documents(state)) for state in states]


def endpoints_of(it: Compiled, service: str) -> Iterable[str]:
    return [
        endpoint.ip
        for config in it.snapshot.clusters.values()
        if config.service.name == service and config.port == 80
        for endpoint in config.endpoints
    ]


def test_an_endpoint_that_comes_or_goes_compiles_no_route_and_no_policy() -> None:
    one, two = pod("p1"), pod("p2", IPS[1])
    first, second, third = compiled(
        {"policies": POLICIES, "p1": one},
        {"policies": POLICIES, "p1": one, "p2": two},
        {"policies": POLICIES, "p1": one.replace('"True"', '"False"'), "p2": two},
    )

    assert [list(endpoints_of(it, "a")) for it in (first, second, third)] == [[IPS[0]], [*IPS[:2]], [IPS[1]]]
    assert not second.has_new_rules
    assert second.snapshot.destinations is third.snapshot.destinations is first.snapshot.destinations
    assert len({it.snapshot.version for it in (first, second, third)}) == 3


def test_an_endpoint_slice_reaches_its_service_alone() -> None:
    before, after = compiled(
        {"p1": pod("p1"), "s1": sliced("s1", "b", behind("10.0.7.7"))},
        {"p1": pod("p1"), "s1": sliced("s1", "b", behind("10.0.7.7"), behind("10.0.7.8"))},
    )

    changed = [name for name, it in after.snapshot.clusters.items() if it is not before.snapshot.clusters[name]]
    assert changed == ["inbound-vip|80|http|b.default.svc.cluster.local"]
    assert list(endpoints_of(after, "b")) == ["10.0.7.7", "10.0.7.8"]


def test_what_comes_back_has_its_old_version() -> None:
    before, between, after = compiled({"p1": pod("p1")}, {"p1": pod("p1", status="False")}, {"p1": pod("p1")})

    assert before.snapshot.version == after.snapshot.version != between.snapshot.version


def test_all_objects_of_these_tests_can_be_read() -> None:
    for text in (AROUND, POLICIES, VIRTUAL, *(it for its in _OTHERS.values() for it in its)):
        list(yaml.safe_load_all(text))
    first = compiled({"policies": POLICIES, "virtual": VIRTUAL, "p1": pod("p1")})[0]
    assert (first.doubts, first.taken.ignored) == ((), {})


def test_a_service_that_nothing_speaks_of_compiles_no_route_and_no_policy() -> None:
    around = {"policies": POLICIES, "virtual": VIRTUAL, "p1": pod("p1")}
    name = "e.default.svc.cluster.local"
    _, ours, changed, _, unbound, _, _, theirs, *_ = _OTHERS["service"]
    theirs = theirs.replace("namespace: default", "namespace: other").replace("10.1.0.1", "10.1.0.7")

    first, *others = compiled(around, *({**around, "service": it} for it in (ours, changed, unbound, theirs, "")))

    assert [sorted(port for host, port in it.snapshot.destinations if host == name) for it in others] == [
        [80],
        [80, 81],
        [],
        [],
        [],
    ]
    for key, destination in first.snapshot.destinations.items():
        assert all(it.snapshot.destinations[key] is destination for it in others)
    assert [it.has_new_rules for it in others] == [True, True, True, False, False]
    assert others[-1].snapshot.version == first.snapshot.version


def test_a_service_that_a_route_speaks_of_changes_what_becomes_of_the_route() -> None:
    route, service = _OTHERS["speaks"][1], _OTHERS["service"][-1]

    before, after = compiled({"speaks": route}, {"speaks": route, "service": service})

    assert any("no Service default/f" in it.sentence for it in before.snapshot.problems)
    assert not any("no Service default/f" in it.sentence for it in after.snapshot.problems)


def test_a_node_and_a_workload_entry_compile_no_route_and_no_policy() -> None:
    entry = _OTHERS["workload"][1].replace("labels", "ports: {web: 8080}, labels")
    steps = ({}, {"node": node("n1", "z1")}, {"node": node("n1", "z2"), "workload": entry}, {"workload": entry})

    first, *others = compiled(*({"policies": POLICIES, "p1": pod("p1"), **it} for it in steps))

    assert all(it.snapshot.destinations is first.snapshot.destinations for it in others)
    assert sorted(endpoints_of(others[-1], "a")) == [IPS[0], "10.0.0.2"]


def test_a_route_that_changes_leaves_the_registry_as_it_is() -> None:
    before, after = compiled({"p1": pod("p1")}, {"p1": pod("p1"), "policies": POLICIES})

    assert after.snapshot.registry is before.snapshot.registry
    assert after.has_new_rules
    assert after.snapshot.version != before.snapshot.version
