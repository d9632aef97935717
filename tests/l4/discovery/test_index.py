"""However the objects of a mesh came, one change after the other, the index is the one of all of them at once."""

from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from l4.config import manifest
from l4.config.documents import Document
from l4.config.resources import Decoder
from l4.discovery.index import Index, Update
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.discovery.workload import Service

MESH = Mesh("cluster.local", "cluster.local", "Kubernetes", "")
State = Mapping[str, str]

AROUND = """
{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {istio.io/use-waypoint: waypoint}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{value: 10.9.9.9}]}
---
{apiVersion: v1, kind: Service, metadata: {name: fixed},
 spec: {clusterIP: 10.1.0.1, ports: [{port: 80}], selector: {app: a}}}
"""
IPS = ("10.0.0.1", "10.0.0.2", "fd00::3", "10.2.0.1")


def pod(name: str, ip: str = IPS[0], app: str = "a", node: str = "n1", more: str = "", spec: str = "") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}{more}}}}}
spec: {{nodeName: {node}{spec}}}
status: {{podIP: "{ip}", podIPs: [{{ip: "{ip}"}}, {{ip: "fd00::3"}}]}}
"""


def entry(name: str, address: str = IPS[0], app: str = "a", more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}}}
spec: {{address: "{address}", labels: {{app: {app}{more}}}, locality: r/z, ports: {{web: 8080}}}}
"""


def service(name: str, ip: str = "10.1.0.2", app: str = "a", more: str = "", labels: str = "") -> str:
    selector = f", selector: {{app: {app}}}" if app else ""
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, labels: {{{labels}}}}}
spec: {{clusterIP: {ip}, ports: [{{name: web, port: 80, targetPort: 8080}}]{selector}{more}}}
"""


def sliced(name: str, of: str, address: str, node: str, target: str) -> str:
    reference = f", targetRef: {{kind: Pod, name: {target}}}" if target else ""
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {of}}}}}
addressType: IPv4
ports: [{{name: web, port: 8080}}]
endpoints: [{{addresses: ["{address}"], nodeName: {node}{reference}}}]
"""


def mirrored(name: str, address: str, node: str) -> str:
    return f"""
apiVersion: v1
kind: Endpoints
metadata: {{name: {name}}}
subsets: [{{addresses: [{{ip: "{address}", nodeName: {node}}}], ports: [{{name: web, port: 8080}}]}}]
"""


def node(name: str, zone: str) -> str:
    labels = f"topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}" if zone else ""
    return f"{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{{labels}}}}}}}"


def service_entry(host: str, resolution: str, spec: str, address: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: e}}
spec:
  hosts: [{host}, other.com]
  addresses: [{address}]
  ports: [{{number: 80, name: web, protocol: HTTP}}]
  resolution: {resolution}
  {spec}
"""


def any_of(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


_IP, _APP, _NODE = st.sampled_from((*IPS, "10.0.7.7")), st.sampled_from("ab"), st.sampled_from(("n1", "n2"))
_NOTHING = st.just("")
_WISH = any_of("", "", ", istio.io/use-waypoint: nowhere", ", istio.io/use-waypoint: none")
_KINDS: dict[str, st.SearchStrategy[str]] = {
    "pod": st.builds(
        pod, st.just("NAME"), st.sampled_from(IPS), _APP, _NODE, _WISH, any_of("", "", "", ", hostNetwork: true")
    ),
    "entry": st.builds(entry, st.just("NAME"), st.sampled_from((*IPS, "w.example.com")), _APP, _WISH),
    "service": st.builds(
        service,
        st.just("NAME"),
        any_of("10.1.0.2", "10.1.0.2", "10.1.0.3", "None", "10.1.0.1", "10.2.0.1"),
        st.sampled_from(("a", "b", "")),
        any_of("", "", ", type: ExternalName, externalName: x.com", ", publishNotReadyAddresses: true"),
        any_of("", "istio.io/use-waypoint: nowhere", "istio.io/use-waypoint: none"),
    ),
    "slice": st.builds(
        sliced, st.just("NAME"), any_of("fixed", "service1", "service2"), _IP, _NODE, any_of("", "pod1", "pod2")
    ),
    "node": st.builds(node, any_of("n1"), any_of("z1", "z2", "")),
    "service_entry": st.builds(
        service_entry,
        any_of("e.com", "service1.default.svc.cluster.local"),
        any_of("STATIC", "DNS", "NONE"),
        any_of("workloadSelector: {labels: {app: a}}", "endpoints: [{address: 10.0.0.1}, {address: 10.0.5.5}]"),
        any_of("10.2.0.1", "10.3.0.0/16", "10.0.0.2"),
    ),
}
_NAMES = {"pod": 3, "entry": 2, "service": 2, "slice": 2, "node": 1, "service_entry": 1}
_EDIT = st.sampled_from(sorted(_KINDS)).flatmap(
    lambda kind: st.tuples(
        st.sampled_from([f"{kind}{number + 1}" for number in range(_NAMES[kind])]), st.one_of(_KINDS[kind], _NOTHING)
    )
) | st.tuples(st.just("mirrored"), st.builds(mirrored, any_of("service1", "slice1"), _IP, _NODE) | _NOTHING)
STEPS = st.lists(st.lists(_EDIT, min_size=1, max_size=3), min_size=1, max_size=8)


class Objects:
    """Documents of objects, of which those stay the same that are written the same; and what is decoded of them."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], list[Document]] = {}
        self.decoder = Decoder(KINDS)

    def documents(self, state: State) -> tuple[Document, ...]:
        found = {}
        for name, text in {"around": AROUND, **state}.items():
            named = text.replace("NAME", name)
            if (name, text) not in self._read:
                self._read[name, text] = manifest.parse(f"{name}.yaml", named.encode())[0]
            found |= {it.key: it for it in self._read[name, text]}
        return tuple(sorted(found.values(), key=lambda it: it.key))


def said(registry: Registry) -> object:
    """All of it, in its order."""
    bound_by = [
        it.waypoint and it.waypoint.bound_by for it in (*registry.workloads.values(), *registry.services.values())
    ]
    return (
        registry,
        list(registry.workloads),
        list(registry.services),
        bound_by,
        registry._services_by_network.find("10.3.1.1"),
    )


def follow(steps: list[list[tuple[str, str]]]) -> list[Update | None]:
    """What each step updated, after it was compared with all at once."""
    mesh, state, found = Objects(), dict[str, str](), list[Update | None]()
    index = Index(mesh.decoder.decode(mesh.documents(state)).resources, MESH)
    for step in steps:
        state.update(step)
        decoded = mesh.decoder.decode(mesh.documents(state))
        before = index.registry
        update = index.update(decoded.changes) if decoded.changes is not None else None
        anew = Index(decoded.resources, MESH)
        if update is None:
            index = anew
        else:
            assert said(update.registry) == said(anew.registry)
            assert sorted(index._nameless) == sorted(anew._nameless)
            assert index._held == anew._held
            assert_told(before, update)
        found.append(update)
    return found


def assert_told(before: Registry, update: Update) -> None:
    """Whatever is another now is told, and nothing else."""
    after = update.registry
    for had, has, moved in (
        (before.workloads, after.workloads, {(it.after or it.before).uid: it for it in update.workloads}),  # type: ignore[union-attr]
        (before.services, after.services, {(it.after or it.before).hostname: it for it in update.services}),  # type: ignore[union-attr]
    ):
        different = {key for key in had.keys() | has.keys() if had.get(key) != has.get(key)}
        assert moved.keys() == different
        assert all((it.before, it.after) == (had.get(key), has.get(key)) for key, it in moved.items())
    at = before._workloads_by_ip.keys() | after._workloads_by_ip.keys()
    assert {it for it in at if before.workload_at(it) != after.workload_at(it)} <= update.addresses


@example([[("pod1", pod("NAME"))], [("entry1", entry("NAME"))], [("pod1", "")], [("pod1", pod("NAME", app="b"))]])
@example([[("entry1", entry("NAME")), ("slice1", sliced("NAME", "fixed", IPS[0], "n1", ""))], [("entry1", "")]])
@example([[("service1", service("NAME"))], [("service1", service("NAME", "10.1.0.3"))], [("service1", "")]])
@example([[("entry1", entry("NAME", more=", istio.io/use-waypoint: nowhere"))], [("pod1", pod("NAME"))]])
@example([[("pod1", pod("NAME", spec=", hostNetwork: true"))], [("pod1", pod("NAME"))]])
@given(STEPS)
@settings(max_examples=300)
def test_changes_one_by_one_give_the_index_of_all_objects_at_once(steps: list[list[tuple[str, str]]]) -> None:
    follow(steps)


SHARED = """
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: SPACE}
spec: {clusterIP: 10.2.0.7, selector: {app: a}, ports: [{port: 80}]}
"""


def test_an_address_of_two_services_stays_with_the_first_whoever_changes_first() -> None:
    in_z, in_a = SHARED.replace("SPACE", "z"), SHARED.replace("SPACE", "a")
    pods = [
        ("pod1", pod("NAME").replace("name: NAME", "name: NAME, namespace: z")),
        ("pod2", pod("NAME", IPS[1]).replace("name: NAME", "name: NAME, namespace: a")),
    ]

    updates = follow([[("aa", in_z), ("bb", in_a)], pods])

    assert updates[1] is not None
    assert len(updates[1].services) == 2


ENTRY = service_entry("e.com", "STATIC", "workloadSelector: {labels: {app: a}}", "10.2.0.9")
SLICE = sliced("slice1", "service1", "10.0.7.7", "n1", "")
CHANGES = {
    "a pod": [[("pod1", pod("NAME"))], [("pod1", pod("NAME", app="b"))], [("pod1", "")]],
    "a WorkloadEntry": [[("entry1", entry("NAME"))], [("entry1", entry("NAME", app="b"))], [("entry1", "")]],
    "a WorkloadEntry of a pod": [[("entry1", entry("NAME")), ("pod1", pod("NAME"))], [("pod1", "")], [("entry1", "")]],
    "one that a ServiceEntry selects": [[("entry1", entry("NAME"))], [("pod1", pod("NAME", IPS[1]))], [("pod1", "")]],
    "a Node": [[("pod1", pod("NAME"))], [("node1", node("n1", "z1"))], [("node1", node("n1", "z2"))], [("node1", "")]],
    "a Node of nobody": [[("service1", service("service1")), ("slice1", SLICE)], [("node1", node("n1", "z1"))]],
    "a Service": [
        [("service1", service("NAME"))],
        [("service1", service("NAME", "10.1.0.9", "b"))],
        [("service1", service("NAME", more=", type: ExternalName, externalName: x.com"))],
        [("service1", "")],
    ],
    "an EndpointSlice": [[("slice1", sliced("NAME", "fixed", "10.0.7.7", "n1", ""))], [("slice1", "")]],
    "Endpoints": [
        [("service1", service("NAME", app=""))],
        [("mirrored", mirrored("service1", "10.0.7.7", "n1"))],
        [("mirrored", mirrored("service1", "10.0.7.8", "n1"))],
        [("mirrored", "")],
    ],
}


@pytest.mark.parametrize("steps", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("around", [{}, {"service_entry1": ENTRY}], ids=("alone", "beside an entry"))
def test_what_changes_is_followed(steps: list[list[tuple[str, str]]], around: State) -> None:
    first = [[*around.items()]] if around else []

    updates = follow([*first, *steps])

    assert None not in updates[len(first) :]


def test_a_change_touches_the_services_that_have_it_alone() -> None:
    others = [(f"service{it}", service("NAME", f"10.1.7.{it}", app="c")) for it in range(20)]

    update = follow([others, [("pod1", pod("NAME"))]])[-1]

    assert update is not None
    assert [moved_name(it.before, it.after) for it in update.services] == ["fixed"]


def moved_name(before: Service | None, after: Service | None) -> str:
    its = after or before
    assert its is not None
    return its.name
