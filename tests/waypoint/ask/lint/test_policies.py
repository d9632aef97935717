"""Policies that ztunnels cannot enforce, and those of a waypoint that clients can bypass."""

import pytest

from l4.discovery.codes import DiscoveryCode
from tests.kit.lints import places
from waypoint.ask.codes import LintCode

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: reviews-1
  labels: {app: reviews}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {serviceAccountName: reviews}
status: {podIP: 10.0.0.1}
"""


def _policy(spec: str, name: str = "policy", annotations: str = "") -> str:
    metadata = f"metadata: {{name: {name}, annotations: {{{annotations}}}}}"
    return f"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n{metadata}\nspec: {{{spec}}}\n"


GETS = "targetRefs: [{kind: Service, name: reviews}], rules: [{to: [{operation: {methods: [GET]}}]}]"
WAYPOINT_ONLY = "rules: [{from: [{source: {serviceAccounts: [waypoint]}}]}]"


def test_a_policy_that_clients_can_go_round_is_told() -> None:
    found = places(LintCode.WAYPOINT_PASSED_BY, POD, _policy(GETS))

    assert found == ["AuthorizationPolicy default/policy spec.targetRefs"]


@pytest.mark.parametrize(
    "texts",
    [
        [POD, _policy(GETS), _policy(WAYPOINT_ONLY, "companion")],
        [POD.replace("enabled", "disabled"), _policy(GETS)],
        [POD, _policy(f"action: AUDIT, {GETS}")],
        [POD, _policy(GETS, annotations="istio.io/dry-run: 'true'")],
        [POD, _policy("rules: []")],
    ],
    ids=["there is a companion", "no ztunnel", "AUDIT", "on trial", "it is the ztunnel's own"],
)
def test_a_policy_that_nobody_can_go_round_or_that_denies_nothing_is_left_alone(texts: list[str]) -> None:
    assert places(LintCode.WAYPOINT_PASSED_BY, *texts) == []


def test_a_companion_on_trial_guards_nothing() -> None:
    trial = _policy(WAYPOINT_ONLY, "companion", "istio.io/dry-run: 'true'")

    assert places(LintCode.WAYPOINT_PASSED_BY, POD, _policy(GETS), trial) != []


def test_what_a_ztunnel_cannot_carry_out_is_told() -> None:
    audit = _policy("action: AUDIT, rules: [{}]")
    modes = audit.replace("AuthorizationPolicy", "PeerAuthentication").replace("action: AUDIT, rules: [{}]", "mtls: 7")

    assert places(DiscoveryCode.POLICY_NOT_ENFORCED, audit) == ["AuthorizationPolicy default/policy spec.action"]
    assert places(DiscoveryCode.AUTHORIZATION_INVALID, modes) == ["PeerAuthentication default/policy spec.mtls"]
