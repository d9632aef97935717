"""Lints that correspond to Istio's analyzers of its own kinds."""

import json
from typing import Any

import pytest

from tests.kit.lints import MESH, NAMESPACE, REVIEWS, WAYPOINT, lints, places
from waypoint.ask.codes import LintCode
from waypoint.config.codes import ConfigCode

TO_REVIEWS = {"route": [{"destination": {"host": "reviews"}}]}


def istio(kind: str, spec: dict[str, Any], group: str = "networking", namespace: str = "default") -> str:
    metadata = {"name": "it", "namespace": namespace}
    return json.dumps({"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec})


def virtual(*http: dict[str, Any], **more: Any) -> str:
    return istio("VirtualService", {"hosts": ["reviews"], "http": list(http), **more})


def on(**match: Any) -> dict[str, Any]:
    return {**TO_REVIEWS, "match": [match]}


def prefix(path: str, **more: Any) -> dict[str, Any]:
    return on(uri={"prefix": path}, **more)


# -- rules that are never asked ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rules",
    [
        (TO_REVIEWS, prefix("/a")),
        (prefix("/"), prefix("/a")),
        (prefix("/a"), prefix("/a")),
        (prefix("/a"), prefix("/ab")),
        (prefix("/a"), on(uri={"exact": "/a/b"})),
        (prefix("/a"), on(uri={"regex": "/a/[0-9]+"})),
        (prefix("/a", ignoreUriCase=True), prefix("/AB")),
        (prefix("/a", ignoreUriCase=True), on(uri={"exact": "/AB"})),
        (on(uri={"exact": "/a"}, ignoreUriCase=True), on(uri={"exact": "/A"})),
        (prefix("/"), prefix("/a", ignoreUriCase=True)),
        (prefix("/", ignoreUriCase=True), on(uri={"regex": "/a|b"})),
        (on(uri={"regex": "/a.*"}), on(uri={"regex": "/a.*"})),
        (prefix("/a"), prefix("/a", method={"exact": "GET"})),
        (prefix("/a", headers={"x": {"exact": "1"}}), prefix("/a", headers={"x": {"exact": "1"}, "y": {"exact": "2"}})),
        (prefix("/a", withoutHeaders={"x": {}}), prefix("/a", withoutHeaders={"x": {}})),
        (prefix("/a", sourceNamespace="a"), prefix("/a", sourceNamespace="a")),
    ],
)
def test_a_rule_that_a_former_one_leaves_nothing_is_told(rules: tuple[dict[str, Any], ...]) -> None:
    assert places(ConfigCode.RULE_NEVER_MATCHES, virtual(*rules)) == ["VirtualService default/it spec.http[1]"]


@pytest.mark.parametrize(
    "rules",
    [
        (prefix("/a"), TO_REVIEWS),
        (prefix("/a/b"), prefix("/a")),
        (prefix("/A"), prefix("/a", ignoreUriCase=True)),
        (prefix("/a"), prefix("/a", ignoreUriCase=True)),
        (on(uri={"exact": "/a"}), prefix("/a")),
        (on(uri={"regex": "/a.*"}), prefix("/a")),
        (prefix("/a"), on(uri={"regex": "/a?b"})),
        (prefix("/a", method={"exact": "GET"}), prefix("/a")),
        (prefix("/a", withoutHeaders={"x": {}}), prefix("/a")),
        (prefix("/a", sourceNamespace="a"), prefix("/a", sourceNamespace="b")),
    ],
)
def test_a_rule_that_still_gets_something_is_left_alone(rules: tuple[dict[str, Any], ...]) -> None:
    assert places(ConfigCode.RULE_NEVER_MATCHES, virtual(*rules)) == []


def test_of_a_rule_the_match_that_never_counts_is_told() -> None:
    later = {**TO_REVIEWS, "match": [{"uri": {"prefix": "/ab"}}, {"uri": {"prefix": "/b"}}]}

    assert places(ConfigCode.RULE_NEVER_MATCHES, virtual(prefix("/a"), later)) == [
        "VirtualService default/it spec.http[1].match[0]"
    ]


# -- destinations --------------------------------------------------------------------------------------------------

TWO_PORTS = MESH.replace("ports: [{name: http, port: 80}]", "ports: [{name: http, port: 80}, {name: http-b, port: 81}]")


def test_a_destination_of_several_ports_without_one_is_told() -> None:
    rule = {**TO_REVIEWS, "mirror": {"host": "reviews"}}
    chosen = {"route": [{"destination": {"host": "reviews", "port": {"number": 80}}}]}

    found = places(LintCode.PORT_NOT_CHOSEN, virtual(rule, chosen), mesh=TWO_PORTS)

    assert found == [
        "VirtualService default/it spec.http[0].mirror",
        "VirtualService default/it spec.http[0].route[0].destination",
    ]
    assert places(LintCode.PORT_NOT_CHOSEN, virtual(rule)) == []


def test_a_virtual_service_of_a_service_without_a_waypoint_is_told() -> None:
    mesh = "---".join((NAMESPACE.replace(", istio.io/use-waypoint: waypoint", ""), REVIEWS))

    assert places(LintCode.ROUTE_WITHOUT_WAYPOINT, virtual(TO_REVIEWS), mesh=mesh) == [
        "VirtualService default/it spec.hosts[0]"
    ]
    assert places(LintCode.ROUTE_WITHOUT_WAYPOINT, virtual(TO_REVIEWS, gateways=["front"]), mesh=mesh) == []
    assert places(LintCode.ROUTE_WITHOUT_WAYPOINT, virtual(TO_REVIEWS)) == []


# -- DestinationRule -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["nobody", "nobody.default.svc.cluster.local", "nobody.example.com"])
def test_a_rule_for_a_host_that_there_is_not_is_told(host: str) -> None:
    assert places(ConfigCode.TARGET_NOT_FOUND, istio("DestinationRule", {"host": host})) == [
        "DestinationRule default/it spec.host"
    ]


@pytest.mark.parametrize("host", ["reviews", "reviews.default.svc.cluster.local", "*.example.com"])
def test_a_rule_for_a_host_that_there_may_be_is_left_alone(host: str) -> None:
    assert places(ConfigCode.TARGET_NOT_FOUND, istio("DestinationRule", {"host": host})) == []


POD = """
apiVersion: v1
kind: Pod
metadata: {name: reviews-1, labels: {app: reviews, version: v1}}
status: {podIP: 10.0.0.1}
"""


@pytest.mark.parametrize(
    ("running", "empty"), [((), [0, 1]), ((POD,), [0]), ((POD.replace("app: reviews", "a: b"),), [0, 1])]
)
def test_a_subset_that_selects_nothing_is_told_where_that_can_be_known(
    running: tuple[str, ...], empty: list[int]
) -> None:
    """The Deployment of the mesh has pods without a version; the pod that runs has v1."""
    subsets = [{"name": "a", "labels": {"version": "v2"}}, {"name": "b", "labels": {"version": "v1"}}]
    rule = istio("DestinationRule", {"host": "reviews", "subsets": subsets})

    found = places(LintCode.SUBSET_SELECTS_NOTHING, *running, rule)

    assert found == [f"DestinationRule default/it spec.subsets[{index}].labels" for index in empty]


def test_a_subset_of_a_service_whose_pods_are_not_known_is_left_alone() -> None:
    rule = istio("DestinationRule", {"host": "reviews", "subsets": [{"name": "a", "labels": {"version": "v1"}}]})
    mesh = "---".join((NAMESPACE, WAYPOINT, REVIEWS.split("---")[0]))

    assert places(LintCode.SUBSET_SELECTS_NOTHING, rule, mesh=mesh) == []


# -- policies ------------------------------------------------------------------------------------------------------


def security(kind: str, spec: dict[str, Any], namespace: str = "default") -> str:
    return istio(kind, spec, "security", namespace)


@pytest.mark.parametrize("kind", ["AuthorizationPolicy", "PeerAuthentication"])
@pytest.mark.parametrize("namespace", ["default", "istio-system"])
def test_a_policy_that_selects_no_pod_is_told(kind: str, namespace: str) -> None:
    def found(app: str) -> list[str]:
        return places(
            LintCode.NO_WORKLOAD_SELECTED, security(kind, {"selector": {"matchLabels": {"app": app}}}, namespace)
        )

    assert found("reviwes") == [f"{kind} {namespace}/it spec.selector"]
    assert found("reviews") == []


def test_where_no_pods_are_known_nothing_is_said_of_selectors() -> None:
    policy = security("AuthorizationPolicy", {"selector": {"matchLabels": {"app": "reviews"}}})

    assert places(LintCode.NO_WORKLOAD_SELECTED, policy, mesh="---".join((NAMESPACE, WAYPOINT))) == []


def test_a_namespace_that_there_is_not_is_told() -> None:
    source = {"source": {"namespaces": ["default", "defualt", "team-*"], "notNamespaces": ["shop"]}}
    when = {"key": "source.namespace", "values": ["default", "nowhere"]}
    policy = security("AuthorizationPolicy", {"rules": [{"from": [source], "when": [when]}]})

    found = places(LintCode.NAMESPACE_UNKNOWN, policy)

    assert found == [
        "AuthorizationPolicy default/it spec.rules[0].from[0].source.namespaces[1]",
        "AuthorizationPolicy default/it spec.rules[0].from[0].source.notNamespaces[0]",
        "AuthorizationPolicy default/it spec.rules[0].when[0].values[1]",
    ]
    assert places(LintCode.NAMESPACE_UNKNOWN, policy, mesh=REVIEWS) == []


def test_a_waypoint_that_is_passed_by_is_told_once_however_many_pods_there_are() -> None:
    pods = [
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: reviews-{n}, labels: {{app: reviews}}, annotations: "
        f"{{ambient.istio.io/redirection: enabled}}}}\nstatus: {{podIP: 10.0.0.{n}}}"
        for n in (1, 2, 3)
    ]
    service = REVIEWS.split("---")[0].replace("name: reviews}", "name: again}")
    rules = [{"to": [{"operation": {"methods": ["GET"]}}]}]
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"}
    policy = security("AuthorizationPolicy", {"targetRefs": [target], "rules": rules})

    (problem,) = (it for it in lints(*pods, service, policy) if it.code is LintCode.WAYPOINT_PASSED_BY)

    assert "clients that call reviews-1 (or 2 more) by its own address" in problem.sentence


def test_a_label_that_is_there_is_not_advised() -> None:
    mesh = "---".join((NAMESPACE, REVIEWS))
    (problem,) = (it for it in lints(virtual(TO_REVIEWS), mesh=mesh) if it.code is LintCode.ROUTE_WITHOUT_WAYPOINT)

    assert (
        "the label istio.io/use-waypoint: waypoint of Namespace default names an unusable waypoint" in problem.sentence
    )
    assert "label it" not in problem.sentence
