"""Following policy changes one by one gives the same policies as reading all objects at once."""

from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from l4.config import manifest
from l4.config.documents import Document, ObjectKey
from l4.config.source import Changes, Documents
from l4.discovery import policy_objects
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.discovery.pipeline import Discovered, Discovery
from l4.discovery.policy_objects import FollowedPolicies, PolicyObjects
from l4.discovery.workload import Workload
from l4.discovery.workload_policies import WorkloadPolicies
from policies.authorization import Authorization

AROUND = """
{apiVersion: v1, kind: Namespace, metadata: {name: default}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: Hostname, value: waypoint.default.svc.cluster.local}]}
---
apiVersion: v1
kind: Service
metadata: {name: waypoint, labels: {gateway.istio.io/managed: istio.io-mesh-controller}}
spec: {clusterIP: 10.1.0.9, ports: [{port: 15008}], selector: {gateway.networking.k8s.io/gateway-name: waypoint}}
"""


def pod(name: str, ip: int, app: str = "a", node: str = "here", status: str = "True", more: str = "") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}{more}}}, annotations: {{ambient.istio.io/redirection: enabled}}}}
spec: {{nodeName: {node}, serviceAccountName: {app}}}
status: {{phase: Running, podIP: 10.0.0.{ip}, conditions: [{{type: Ready, status: "{status}"}}]}}
"""


def service(waypoint: str = "waypoint", app: str = "a") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: s, labels: {{istio.io/use-waypoint: {waypoint}}}}}
spec: {{clusterIP: 10.1.0.1, ports: [{{port: 80}}], selector: {{app: {app}}}}}
"""


def allow(client: str, app: str = "a") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p}}
spec: {{selector: {{matchLabels: {{app: {app}}}}}, rules: [{{from: [{{source: {{serviceAccounts: [{client}]}}}}]}}]}}
"""


STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: s}
spec: {mtls: {mode: STRICT}}
"""
BROKEN = allow("c").replace("rules:", "rulez:")
_OF_WAYPOINT = ", gateway.networking.k8s.io/gateway-name: waypoint"
_PODS = st.builds(
    pod,
    st.just("NAME"),
    ip=st.sampled_from((1, 2, 3)),
    app=st.sampled_from("abw"),
    node=st.sampled_from(("here", "elsewhere")),
    status=st.sampled_from(("True", "False")),
    more=st.sampled_from(("", "", _OF_WAYPOINT, ", istio.io/use-waypoint: waypoint")),
)
_EDITS = st.one_of(
    st.tuples(st.sampled_from(("p1", "p2", "p3")), st.one_of(st.just(""), _PODS)).map(
        lambda it: (it[0], it[1].replace("NAME", it[0]))
    ),
    st.tuples(st.just("s"), st.sampled_from(("", service(), service("none"), service(app="b")))),
    st.tuples(st.just("policy"), st.sampled_from(("", allow("c"), allow("d"), allow("c", "b"), BROKEN))),
    st.tuples(st.just("strict"), st.sampled_from(("", STRICT))),
)


class World:
    """A source of these objects, the steps of a ztunnel behind it, and what it makes of them."""

    def __init__(self, **objects: str) -> None:
        self._read: dict[tuple[str, str], Document] = {}
        self._known: dict[ObjectKey, Document] = {}
        self._discovery = Discovery(KINDS, Mesh())
        self._followed = FollowedPolicies(concerns=_is_here)
        around, _ = manifest.parse("around.yaml", AROUND.encode())
        self._known |= {it.key: it for it in around}
        self._texts: dict[str, str] = {}
        self.discovered = self._discovery.take(Documents(tuple(sorted(around, key=lambda it: it.key))))
        self.policies = self._followed.take(self.discovered)
        self.change(objects)

    def change(self, texts: Mapping[str, str]) -> WorkloadPolicies:
        """The policies after these objects are written so; an empty text removes one."""
        keys = {name: self._document(name, text).key for name, text in self._texts.items() if text}
        self._texts |= texts
        now = {name: self._document(name, text) for name, text in self._texts.items() if text}
        changed = [now[name] for name in texts if name in now]
        gone = [key for name, key in keys.items() if name not in now]
        self.discovered = self._discovery.take(Changes(tuple(changed), tuple(gone)))
        self.policies = self._followed.take(self.discovered)
        return self.policies

    def _document(self, name: str, text: str) -> Document:
        if (name, text) not in self._read:
            (document,), problems = manifest.parse(f"{name}.yaml", text.encode())
            assert problems == []
            self._read[name, text] = document
        return self._read[name, text]


def _is_here(workload: Workload) -> bool:
    return workload.node == "here"


def here(policies: WorkloadPolicies, known: Discovered) -> dict[str, Authorization | None]:
    return {uid: policies.of(it) for uid, it in known.registry.workloads.items() if _is_here(it)}


@example([{"p1": pod("p1", 1), "policy": allow("c"), "s": service()}, {"p2": pod("p2", 2, "w", more=_OF_WAYPOINT)}])
@example([{"p1": pod("p1", 1), "policy": allow("c"), "s": service()}, {"s": service("none")}])
@example([{"p1": pod("p1", 1), "policy": allow("c", "b")}, {"p1": pod("p1", 1, "b")}])
@given(st.lists(st.lists(_EDITS, min_size=1, max_size=3).map(dict), min_size=2, max_size=8))
@settings(max_examples=150)
def test_changes_one_by_one_give_the_policies_that_all_objects_give_at_once(steps: list[dict[str, str]]) -> None:
    world = World()

    for step in steps:
        world.change(step)
        anew = PolicyObjects.of(world.discovered.taken.resources, denied=world.discovered.taken.denied)

        known = world.discovered
        assert here(world.policies, known) == here(anew.on(known.registry), known)
        assert world._followed.problems == anew.problems


@pytest.mark.parametrize(
    "change",
    [
        {"p2": pod("p2", 2, node="elsewhere", status="False")},
        {"p2": ""},
        {"p3": pod("p3", 3, node="elsewhere")},
    ],
    ids=["readiness", "gone", "new"],
)
def test_a_pod_of_another_node_changes_no_policies_and_compiles_none(
    change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(p1=pod("p1", 1), p2=pod("p2", 2, node="elsewhere"), policy=allow("c"), s=service())
    before, compiled = world.policies, []
    monkeypatch.setattr(policy_objects, "compile_policy", lambda *args: compiled.append(args))

    assert world.change(change) is before
    assert compiled == []


def test_a_pod_of_the_node_that_is_another_one_now_is_asked_about_again_and_no_policy_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(p1=pod("p1", 1), p2=pod("p2", 2), policy=allow("c"))
    before = here(world.policies, world.discovered)
    monkeypatch.setattr(policy_objects, "compile_policy", None)

    world.change({"p1": pod("p1", 1, "b")})

    after = here(world.policies, world.discovered)
    moved, other = (f"Kubernetes//Pod/default/{name}" for name in ("p1", "p2"))
    assert before[moved] is not None
    assert after[moved] is None
    assert after[other] is before[other]


def test_a_waypoint_with_another_identity_is_let_in_at_once() -> None:
    first, second = (pod("w", 9, account, "elsewhere", more=_OF_WAYPOINT) for account in ("wa", "wb"))
    world = World(p1=pod("p1", 1), w=first, policy=allow("c"), s=service())
    before = here(world.policies, world.discovered)

    world.change({"w": second})

    after = here(world.policies, world.discovered)
    (uid,) = before
    exempt = [str(it[uid].exempt) for it in (before, after)]  # type: ignore[union-attr]
    assert ["sa/wa" in text for text in exempt] == [True, False]
    assert ["sa/wb" in text for text in exempt] == [False, True]
