"""Routes, policies, waypoints and labels without effect."""

from tests.kit.lints import MESH, NAMESPACE, REVIEWS, WAYPOINT, lints, places, route
from waypoint.ask.codes import LintCode

ROUTE = route("{backendRefs: [{name: reviews, port: 80}]}")
NOT_IN_THE_MESH = NAMESPACE.replace("istio.io/dataplane-mode: ambient, ", "")
NO_WAYPOINT = NAMESPACE.replace(", istio.io/use-waypoint: waypoint", "")


def test_a_route_to_a_service_without_a_waypoint_has_no_effect() -> None:
    (problem,) = lints(ROUTE, mesh="---".join((NO_WAYPOINT, REVIEWS)))

    assert (problem.code, problem.field) == (LintCode.ROUTE_WITHOUT_WAYPOINT, "spec.parentRefs[0]")
    assert "istio.io/use-waypoint" in problem.sentence
    assert "not in these files" not in problem.sentence


def test_where_the_namespace_is_not_known_its_labels_are_not_either() -> None:
    (problem,) = lints(ROUTE, mesh=REVIEWS)

    assert "Namespace default is not in these files" in problem.sentence


def test_a_policy_for_a_service_without_a_waypoint_has_no_effect() -> None:
    policy = """
apiVersion: pywaypoint.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: reviews}
spec: {targetRefs: [{group: "", kind: Service, name: reviews}], rules: [{limit: {requests: 5, unit: Minute}}]}
"""

    assert places(LintCode.ROUTE_WITHOUT_WAYPOINT, policy, mesh="---".join((NO_WAYPOINT, REVIEWS))) == [
        "RateLimitPolicy default/reviews spec.targetRefs[0]"
    ]


def test_a_route_to_a_service_with_a_waypoint_is_left_alone() -> None:
    assert places(LintCode.ROUTE_WITHOUT_WAYPOINT, ROUTE) == []


def test_a_waypoint_that_no_label_names_is_told() -> None:
    mesh = "---".join((NO_WAYPOINT, WAYPOINT, REVIEWS))

    assert places(LintCode.WAYPOINT_WITHOUT_SERVICES, REVIEWS, mesh=mesh) == ["Gateway default/waypoint"]


def test_a_waypoint_for_nothing_and_a_gateway_that_is_no_waypoint_need_no_label() -> None:
    for_none = WAYPOINT.replace("{name: waypoint}", "{name: waypoint, labels: {istio.io/waypoint-for: none}}")
    ingress = WAYPOINT.replace("HBONE", "HTTP").replace("15008", "80")

    assert places(LintCode.WAYPOINT_WITHOUT_SERVICES, for_none, mesh=NO_WAYPOINT) == []
    assert places(LintCode.WAYPOINT_WITHOUT_SERVICES, ingress, mesh=NO_WAYPOINT) == []


def test_a_canary_waypoint_and_one_for_another_namespace_have_users() -> None:
    canary = NAMESPACE.replace("istio.io/use-waypoint:", "istio.io/use-waypoint-canary:")
    elsewhere = NAMESPACE.replace("name: default", "name: shop").replace(
        "use-waypoint: waypoint", "use-waypoint: waypoint, istio.io/use-waypoint-namespace: default"
    )

    assert places(LintCode.WAYPOINT_WITHOUT_SERVICES, WAYPOINT, mesh=canary) == []
    assert places(LintCode.WAYPOINT_WITHOUT_SERVICES, WAYPOINT, mesh=elsewhere) == []


def test_a_waypoint_in_a_namespace_outside_the_mesh_is_told_where_the_label_stands() -> None:
    mesh = "---".join((NOT_IN_THE_MESH, WAYPOINT))
    labelled = REVIEWS.replace("{name: reviews}", "{name: reviews, labels: {istio.io/use-waypoint: waypoint}}", 1)

    assert places(LintCode.ENROLLED_WITHOUT_MESH, labelled, mesh=mesh) == [
        "Service default/reviews metadata.labels[istio.io/use-waypoint]",
        "Namespace default metadata.labels[istio.io/use-waypoint]",
    ]


def test_a_namespace_in_the_mesh_and_one_that_is_not_known_are_left_alone() -> None:
    labelled = REVIEWS.replace("{name: reviews}", "{name: reviews, labels: {istio.io/use-waypoint: waypoint}}", 1)

    assert places(LintCode.ENROLLED_WITHOUT_MESH, REVIEWS, mesh=MESH.replace(REVIEWS, "")) == []
    assert places(LintCode.ENROLLED_WITHOUT_MESH, labelled, mesh=WAYPOINT) == []
