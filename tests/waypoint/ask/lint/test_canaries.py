"""What applies to only one of two waypoints that share a Service."""

import pytest

from tests.kit.lints import NAMESPACE, REVIEWS, WAYPOINT, lints, places
from waypoint.ask.codes import LintCode

CANARY = WAYPOINT.replace("{name: waypoint}", "{name: canary}").replace("waypoint.default", "canary.default")
WITH_CANARY = NAMESPACE.replace(
    "istio.io/use-waypoint: waypoint", "istio.io/use-waypoint: waypoint, istio.io/use-waypoint-canary: canary"
)


def for_gateways(*names: str, kind: str = "Gateway") -> str:
    group = "gateway.networking.k8s.io" if kind == "Gateway" else '""'
    refs = ", ".join(f"{{group: {group}, kind: {kind}, name: {name}}}" for name in names)
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: access}}
spec: {{action: DENY, targetRefs: [{refs}], rules: [{{to: [{{operation: {{methods: [PUT]}}}}]}}]}}
"""


@pytest.mark.parametrize(("name", "other"), [("waypoint", "canary"), ("canary", "waypoint")])
def test_a_policy_for_one_of_two_waypoints_of_a_service_is_told(name: str, other: str) -> None:
    mesh = "---".join((WITH_CANARY, WAYPOINT, CANARY, REVIEWS))

    (problem,) = [it for it in lints(for_gateways(name), mesh=mesh) if it.code is LintCode.NOT_FOR_CANARY]

    assert problem.field == "spec.targetRefs[0]"
    assert problem.sentence.startswith(f"has no effect at default/{other}, ")


def test_a_policy_for_both_or_for_the_service_is_left_alone() -> None:
    mesh = "---".join((WITH_CANARY, WAYPOINT, CANARY, REVIEWS))

    for policy in (for_gateways("waypoint", "canary"), for_gateways("reviews", kind="Service"), for_gateways("else")):
        assert places(LintCode.NOT_FOR_CANARY, policy, mesh=mesh) == []
    alone = "---".join((NAMESPACE, WAYPOINT, CANARY, REVIEWS))
    assert places(LintCode.NOT_FOR_CANARY, for_gateways("waypoint"), mesh=alone) == []


# -- who is let in -----------------------------------------------------------------------------------------------------

THEIRS = CANARY.replace("pywaypoint", "istio-waypoint")


def pod(name: str, labels: str, ip: str) -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}-1, labels: {{{labels}}}, annotations: {{ambient.istio.io/redirection: enabled}}}}
spec: {{serviceAccountName: {name}, nodeName: n, containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}
status: {{podIP: {ip}}}
"""


PODS = [pod("reviews", "app: reviews", "10.0.0.1")]
for number, gateway in enumerate(("waypoint", "canary"), start=2):
    label = f"gateway.networking.k8s.io/gateway-name: {gateway}"
    PODS.append(pod(gateway, label, f"10.0.0.{number}"))
    PODS.append(f"""
apiVersion: v1
kind: Service
metadata: {{name: {gateway}, labels: {{{label}}}}}
spec: {{selector: {{{label}}}, ports: [{{name: mesh, port: 15008, appProtocol: hbone}}]}}
""")


def allowing(*accounts: str) -> str:
    principals = ", ".join(f"cluster.local/ns/default/sa/{it}" for it in accounts)
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: access}}
spec: {{selector: {{matchLabels: {{app: reviews}}}}, rules: [{{from: [{{source: {{principals: [{principals}]}}}}]}}]}}
"""


def test_workloads_that_let_in_the_waypoint_and_not_its_canary_are_told() -> None:
    mesh = "---".join((WITH_CANARY, WAYPOINT, THEIRS, REVIEWS, *PODS))

    (it,) = [it for it in lints(allowing("waypoint"), mesh=mesh) if it.code is LintCode.CANARY_NOT_LET_IN]

    assert (it.subject, it.field) == ("Service default/reviews", "metadata.labels[istio.io/use-waypoint-canary]")
    assert "let in the waypoint default/waypoint and not default/canary" in it.sentence
    assert it.sentence.endswith("allow the principal cluster.local/ns/default/sa/canary, too")


@pytest.mark.parametrize("accounts", [("waypoint", "canary"), ("*",), ("someone",), ("canary",)])
def test_workloads_that_let_in_both_or_not_even_the_waypoint_are_left_alone(accounts: tuple[str, ...]) -> None:
    mesh = "---".join((WITH_CANARY, WAYPOINT, THEIRS, REVIEWS, *PODS))

    assert places(LintCode.CANARY_NOT_LET_IN, allowing(*accounts), mesh=mesh) == []


def test_two_waypoints_of_one_class_are_let_in_by_our_ztunnels_themselves() -> None:
    mesh = "---".join((WITH_CANARY, WAYPOINT, CANARY, REVIEWS, *PODS))

    assert places(LintCode.CANARY_NOT_LET_IN, allowing("waypoint"), mesh=mesh) == []
