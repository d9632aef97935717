import pytest

from tests.kit.lints import MESH, NAMESPACE, REVIEWS, WAYPOINT, places
from waypoint.ask.codes import LintCode

PATHS = "{to: [{operation: {paths: [/admin]}}]}"
OUTSIDE = (
    f"{NAMESPACE.replace('{istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}', '{}')}---{REVIEWS}"
)


def authorization(rule: str, target: str = "selector: {matchLabels: {app: reviews}}") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: policy}}
spec: {{{target}, action: ALLOW, rules: [{rule}]}}
"""


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (PATHS, "to[0].operation.paths"),
        ("{to: [{operation: {ports: ['80']}}, {operation: {notMethods: [GET]}}]}", "to[1].operation.notMethods"),
        ("{from: [{source: {requestPrincipals: ['*']}}]}", "from[0].source.requestPrincipals"),
        ("{when: [{key: 'request.headers[x]', values: [a]}]}", "when[0].key"),
    ],
)
def test_a_policy_with_http_fields_that_goes_to_ztunnels_is_told(rule: str, field: str) -> None:
    found = places(LintCode.SELECTOR_POLICY_WITH_L7, authorization(rule))

    assert found == [f"AuthorizationPolicy default/policy spec.rules[0].{field}"]


def test_a_policy_that_ztunnels_can_judge_or_that_goes_to_a_waypoint_is_left_alone() -> None:
    who, where = "from: [{source: {namespaces: [a]}}]", "to: [{operation: {ports: ['80']}}]"
    l4 = f"{{{who}, {where}, when: [{{key: source.ip, values: [a]}}]}}"
    to_waypoint = authorization(PATHS, "targetRefs: [{kind: Service, group: '', name: reviews}]")

    assert places(LintCode.SELECTOR_POLICY_WITH_L7, authorization(l4)) == []
    assert places(LintCode.SELECTOR_POLICY_WITH_L7, to_waypoint) == []


def test_outside_the_mesh_a_sidecar_may_judge_http() -> None:
    assert places(LintCode.SELECTOR_POLICY_WITH_L7, authorization(PATHS), mesh=OUTSIDE) == []


def test_claims_of_tokens_that_nobody_checks_are_told() -> None:
    principals = authorization("{from: [{source: {requestPrincipals: ['*']}}]}")
    claims = authorization("{when: [{key: 'request.auth.claims[group]', values: [a]}]}")

    assert places(LintCode.CLAIMS_NOT_CHECKED, principals) == [
        "AuthorizationPolicy default/policy spec.rules[0].from[0].source.requestPrincipals"
    ]
    assert places(LintCode.CLAIMS_NOT_CHECKED, claims) == [
        "AuthorizationPolicy default/policy spec.rules[0].when[0].key"
    ]


@pytest.mark.parametrize("namespace", ["default", "istio-system"])
def test_claims_of_tokens_that_are_checked_are_left_alone(namespace: str) -> None:
    checked = f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: jwt, namespace: {namespace}}}
"""
    policy = authorization("{from: [{source: {requestPrincipals: ['*']}}]}")

    assert places(LintCode.CLAIMS_NOT_CHECKED, policy, checked) == []


def network(spec: str, name: str = "policy") -> str:
    return f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


CLOSED = ["NetworkPolicy default/policy spec.ingress"]


@pytest.mark.parametrize(
    "spec",
    [
        "podSelector: {}, policyTypes: [Ingress]",
        "podSelector: {}, ingress: [{ports: [{port: 80}]}]",
        "podSelector: {matchLabels: {app: reviews}}, ingress: [{ports: [{port: 15008, protocol: UDP}, {port: http}]}]",
        "podSelector: {}, ingress: [{ports: [{port: 15000, endPort: 15007}]}]",
    ],
)
def test_a_network_policy_that_keeps_tunnels_out_is_told(spec: str) -> None:
    assert places(LintCode.HBONE_PORT_BLOCKED, network(spec)) == CLOSED


@pytest.mark.parametrize(
    "spec",
    [
        "podSelector: {}, ingress: [{ports: [{port: 80}, {port: 15008}]}]",
        "podSelector: {}, ingress: [{ports: [{port: 15000, endPort: 15100}]}]",
        "podSelector: {}, ingress: [{ports: [{protocol: TCP}]}]",
        "podSelector: {}, ingress: [{from: [{podSelector: {}}]}]",
        "podSelector: {}, policyTypes: [Egress]",
        "podSelector: {matchLabels: {app: ratings}}, ingress: []",
        "podSelector: {matchExpressions: [{key: app, operator: Sometimes}]}",
    ],
)
def test_a_network_policy_that_lets_tunnels_in_or_selects_nobody_is_left_alone(spec: str) -> None:
    assert places(LintCode.HBONE_PORT_BLOCKED, network(spec)) == []


def test_a_policy_that_denies_everything_is_opened_by_one_beside_it() -> None:
    deny = network("podSelector: {}, policyTypes: [Ingress]")
    reviews = network("podSelector: {matchLabels: {app: reviews}}, ingress: [{ports: [{port: 15008}]}]", name="open")
    ratings = network("podSelector: {matchLabels: {app: ratings}}, ingress: [{ports: [{port: 15008}]}]", name="open")

    assert places(LintCode.HBONE_PORT_BLOCKED, deny, reviews) == []
    assert places(LintCode.HBONE_PORT_BLOCKED, deny, ratings) == CLOSED


def test_where_no_pods_are_known_only_what_nothing_opens_is_told() -> None:
    mesh = f"{NAMESPACE}---{WAYPOINT}"
    deny = network("podSelector: {matchLabels: {app: reviews}}, policyTypes: [Ingress]")
    opened = network("podSelector: {matchLabels: {app: x}}, ingress: [{ports: [{port: 15008}]}]", name="open")

    assert places(LintCode.HBONE_PORT_BLOCKED, deny, mesh=mesh) == CLOSED
    assert places(LintCode.HBONE_PORT_BLOCKED, deny, opened, mesh=mesh) == []


def test_outside_the_mesh_no_tunnels_come_in() -> None:
    assert places(LintCode.HBONE_PORT_BLOCKED, network("podSelector: {}, policyTypes: [Ingress]"), mesh=OUTSIDE) == []


@pytest.mark.parametrize(
    "spec", ["rules: 5", "rules: [5, {to: x, from: [5], when: {}}]", "podSelector: 5, ingress: [5, {ports: 7}]"]
)
def test_nonsense_is_passed_over(spec: str) -> None:
    policy = f"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"

    assert places(LintCode.SELECTOR_POLICY_WITH_L7, policy, network(spec), mesh=MESH) == []
