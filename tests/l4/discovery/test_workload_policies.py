"""The clients that a ztunnel admits to a workload: scopes, selectors, PeerAuthentication, and waypoints."""

from dataclasses import dataclass, replace

import pytest

from l4.config import manifest
from l4.config.resources import Decoder
from l4.discovery.kubernetes import KINDS
from l4.discovery.policy_objects import PolicyObjects
from l4.discovery.registry import Registry
from l4.discovery.waypoints_ahead import waypoints_ahead
from l4.discovery.workload import GatewayAddress, Workload
from l4.discovery.workload_policies import PolicySet, ScopedPolicy, WorkloadPolicies
from policies.access import Access
from policies.attributes import Identity, Peer
from policies.authorization import Action, Policy, Rule
from tests.kit.workloads import pod, registry, service

SERVER = replace(pod("server", "10.0.0.2"), labels={"app": "server"})
WAYPOINT = pod("waypoint", "10.0.0.9")
BOUND = GatewayAddress(ip="10.0.0.9", namespace="default", gateway="waypoint")
CLIENT = Peer(Identity("cluster.local", "default", "client"), "10.0.0.1", 1)
NOBODY = Peer(None, "10.0.0.1", 1)


def authorization(spec: str, namespace: str = "default", name: str = "p") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
"""


def authentication(spec: str, namespace: str = "default", name: str = "p", created: str = "") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}
spec: {{{spec}}}
"""


def objects(*texts: str, trust_domains: frozenset[str] = frozenset({"cluster.local"})) -> PolicyObjects:
    documents, problems = manifest.parse("p.yaml", "\n---\n".join(texts).encode())
    assert problems == []
    return PolicyObjects.of(Decoder(KINDS).decode(documents).resources, trust_domains)


def policies(*texts: str, known: Registry | None = None) -> WorkloadPolicies:
    return objects(*texts).on(known or registry(SERVER))


def denial(it: WorkloadPolicies, peer: Peer = CLIENT, port: int = 8080, workload: Workload = SERVER) -> str:
    """The policy that denies, `none` when none allows, empty when it is allowed."""
    held = it.of(workload)
    if held is None:
        return ""
    verdict = held.judge(Access(peer, workload.addresses, port))
    return "" if verdict.is_allowed else str(verdict.rule.policy) if verdict.rule else "none"


DENY = "action: DENY, rules: [{}]"


@pytest.mark.parametrize(
    ("text", "denied_by"),
    [
        (authorization(DENY), "default/p"),
        (authorization(DENY, "other"), ""),
        (authorization(DENY, "istio-system"), "istio-system/p"),
        (authorization("selector: {matchLabels: {app: server}}, " + DENY), "default/p"),
        (authorization("selector: {matchLabels: {app: other}}, " + DENY), ""),
        (authorization("selector: {matchLabels: {app: server}}, " + DENY, "istio-system"), "istio-system/p"),
        (authorization("selector: {matchLabels: {app: server}}, " + DENY, "other"), ""),
        (authorization("selector: {matchLabels: {}}, " + DENY), "default/p"),
        (authorization("targetRefs: [{kind: Service, name: server}], " + DENY), ""),
        (authorization("rules: []"), "none"),
        (authorization("rules: [{from: [{source: {namespaces: [default]}}]}]"), ""),
        (authorization("rules: [{to: [{operation: {ports: ['8080']}}]}]"), ""),
        (authorization("rules: [{to: [{operation: {ports: ['80']}}]}]"), "none"),
        (authorization("rules: [{to: [{operation: {methods: [GET]}}]}]"), "none"),
        (authorization("action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]"), "default/p"),
        (authorization("action: AUDIT, rules: [{}]"), ""),
        (authorization("action: CUSTOM, provider: {name: a}, rules: [{}]"), ""),
        (authorization("selector: 7, " + DENY), "default/p"),
        (authorization("rules: 7"), "default/p"),
    ],
)
def test_a_policy_holds_for_those_in_its_scope(text: str, denied_by: str) -> None:
    assert denial(policies(text)) == denied_by


STRICT, PERMISSIVE, UNSET = "mtls: {mode: STRICT}", "mtls: {mode: PERMISSIVE}", "mtls: {mode: UNSET}"
SELECTED = "selector: {matchLabels: {app: server}}, "
STATIC = "istio-system/istio_converted_static_strict"
PORTS = "portLevelMtls: {'8080': {mode: %s}}"


@pytest.mark.parametrize(
    ("texts", "denied_by"),
    [
        ([], ""),
        ([authentication(STRICT)], STATIC),
        ([authentication(STRICT, "istio-system")], STATIC),
        ([authentication(STRICT, "other")], ""),
        ([authentication("mtls: {mode: DISABLE}")], ""),
        ([authentication(STRICT, "istio-system"), authentication(PERMISSIVE)], ""),
        ([authentication(STRICT, "istio-system"), authentication(UNSET)], STATIC),
        ([authentication(STRICT), authentication(SELECTED + PERMISSIVE, name="w")], ""),
        ([authentication(PERMISSIVE), authentication(SELECTED + STRICT, name="w")], STATIC),
        ([authentication(SELECTED + STRICT, "istio-system")], ""),
        ([authentication(STRICT, name="a", created="2"), authentication(PERMISSIVE, name="b", created="1")], ""),
        ([authentication(SELECTED + PORTS % "STRICT")], "default/converted_peer_authentication_p"),
        ([authentication(SELECTED + PORTS % "STRICT" + ", " + STRICT)], STATIC),
        ([authentication(SELECTED + PORTS % "PERMISSIVE" + ", " + STRICT)], ""),
        ([authentication(STRICT), authentication(SELECTED + PORTS % "DISABLE", name="w")], ""),
        ([authentication(PORTS % "STRICT")], STATIC),
        ([authentication("selector: {matchLabels: {}}, " + PORTS % "STRICT")], STATIC),
        ([authentication(SELECTED + "portLevelMtls: {'0': {mode: PERMISSIVE}}")], STATIC),
        ([authentication(SELECTED + "portLevelMtls: {0: {mode: PERMISSIVE}}")], STATIC),
        ([authentication("mtls: {mode: STRCT}")], STATIC),
        ([authentication(SELECTED + "mtls: {mode: STRCT}")], STATIC),
        ([authentication("selector: {matchLabels: {app: other}}, mtls: {mode: STRCT}")], ""),
    ],
)
def test_without_identity_one_gets_in_where_mutual_tls_is_not_asked_for(texts: list[str], denied_by: str) -> None:
    it = policies(*texts)

    assert denial(it, NOBODY) == denied_by
    assert denial(it, CLIENT) == ""


def test_a_port_that_is_excepted_leaves_the_others_strict() -> None:
    it = policies(authentication(SELECTED + PORTS % "PERMISSIVE" + ", " + STRICT))

    assert denial(it, NOBODY, 8080) == ""
    assert denial(it, NOBODY, 9090) == "default/converted_peer_authentication_p"


@pytest.mark.parametrize("is_for_service", [True, False])
def test_the_waypoint_of_a_workload_needs_no_policy_that_allows_it(is_for_service: bool) -> None:
    workload = SERVER if is_for_service else replace(SERVER, waypoint=BOUND)
    bound = service("server", "10.1.0.2", ports={80: 8080}, pods=[workload], waypoint=BOUND if is_for_service else None)
    it = policies(authorization("rules: []"), known=registry(bound, WAYPOINT))

    assert denial(it, Peer(WAYPOINT.identity, "10.0.0.9", 1), workload=workload) == ""
    assert denial(it, CLIENT, workload=workload) == "none"


def test_a_workload_without_waypoint_lets_no_waypoint_in_by_itself() -> None:
    it = policies(authorization("rules: []"), known=registry(SERVER, WAYPOINT))

    assert denial(it, Peer(WAYPOINT.identity, "10.0.0.9", 1)) == "none"


def test_the_waypoint_is_denied_like_anybody_else() -> None:
    workload = replace(SERVER, waypoint=BOUND)
    it = policies(authorization(DENY), known=registry(workload, WAYPOINT))

    assert denial(it, Peer(WAYPOINT.identity, "10.0.0.9", 1), workload=workload) == "default/p"


def test_what_a_ztunnel_cannot_carry_out_is_told() -> None:
    it = objects(
        authorization("action: AUDIT, rules: [{}]", name="audit"),
        authorization("rules: [{form: []}]", name="broken"),
        authentication("mtls: {mode: STRCT}"),
    )

    assert [(problem.subject, problem.field, problem.code.name) for problem in it.problems] == [
        ("AuthorizationPolicy default/audit", "spec.action", "POLICY_NOT_ENFORCED"),
        ("AuthorizationPolicy default/broken", "spec.rules[0]", "AUTHORIZATION_INVALID"),
        ("PeerAuthentication default/p", "spec.mtls.mode", "AUTHORIZATION_INVALID"),
    ]


def test_a_principal_of_one_of_our_trust_domains_is_meant_in_all_of_them() -> None:
    text = authorization("rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]}]")
    it = objects(text, trust_domains=frozenset({"new.example", "old.example"})).on(registry(SERVER))

    for domain, denied_by in (("new.example", ""), ("old.example", ""), ("evil.example", "none")):
        assert denial(it, Peer(Identity(domain, "default", "client"), "10.0.0.1", 1)) == denied_by


@dataclass(frozen=True)
class _Listed:
    """The scope of a policy as workload discovery tells it: by the workloads that list it."""

    uids: frozenset[str]

    def covers(self, workload: Workload) -> bool:
        return workload.uid in self.uids


def test_policies_of_workload_discovery_need_no_kubernetes_object() -> None:
    nobody = Policy("default", "nobody", Action.DENY, (Rule(0),))
    other, bound = pod("other", "10.0.0.3"), replace(pod("bound", "10.0.0.4"), waypoint=BOUND)
    only_waypoints = Policy("default", "waypoints", Action.ALLOW, ())
    its = PolicySet(
        (
            ScopedPolicy(nobody, _Listed(frozenset({SERVER.uid}))),
            ScopedPolicy(only_waypoints, _Listed(frozenset({bound.uid}))),
        )
    )
    it = WorkloadPolicies(its, waypoints_ahead(registry(SERVER, other, bound, WAYPOINT)))

    assert denial(it) == "default/nobody"
    assert denial(it, workload=other) == ""
    assert denial(it, workload=bound) == "none"
    assert denial(it, Peer(WAYPOINT.identity, "10.0.0.9", 1), workload=bound) == ""
