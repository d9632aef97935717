import pytest

from tests.kit.lints import MESH, NAMESPACE, WAYPOINT, places, route
from waypoint.ask.codes import LintCode

ROUTE = route("{backendRefs: [{name: reviews, port: 80}]}")
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80}]}
"""
IN_MESH = f"{NAMESPACE}---{WAYPOINT}---{SERVICE}"
BACKEND = ["HTTPRoute default/reviews spec.rules[0].backendRefs[0]"]


def pod(name: str, ready: str, app: str = "reviews") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}}}}}
status: {{podIP: 10.0.0.{len(name)}, conditions: [{{type: Ready, status: "{ready}"}}]}}
"""


def deployment(replicas: int, app: str = "reviews", kind: str = "Deployment") -> str:
    return f"""
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {app}}}
spec: {{replicas: {replicas}, template: {{metadata: {{labels: {{app: {app}}}}}}}}}
"""


@pytest.mark.parametrize("manifest", [pod("a", "False"), deployment(0), deployment(1, app="ratings")])
def test_a_backend_without_a_ready_endpoint_is_told(manifest: str) -> None:
    assert places(LintCode.BACKEND_WITHOUT_ENDPOINTS, ROUTE, manifest, mesh=IN_MESH) == BACKEND


@pytest.mark.parametrize(
    "manifest", [pod("a", "True"), deployment(2), deployment(0, kind="DaemonSet"), pod("a", "True").split("status")[0]]
)
def test_a_backend_that_runs_or_will_run_is_left_alone(manifest: str) -> None:
    assert places(LintCode.BACKEND_WITHOUT_ENDPOINTS, ROUTE, manifest, mesh=IN_MESH) == []


def test_where_pods_run_what_deployments_promise_does_not_count() -> None:
    found = places(LintCode.BACKEND_WITHOUT_ENDPOINTS, ROUTE, pod("a", "False"), deployment(2), mesh=IN_MESH)

    assert found == BACKEND


def test_where_no_pods_are_known_nothing_is_said_of_endpoints() -> None:
    assert places(LintCode.BACKEND_WITHOUT_ENDPOINTS, ROUTE, mesh=IN_MESH) == []
    assert places(LintCode.SELECTS_NOTHING, ROUTE, mesh=IN_MESH) == []


def test_a_backend_of_weight_zero_needs_no_endpoint() -> None:
    rule = "{backendRefs: [{name: reviews, port: 80, weight: 0}]}"

    assert places(LintCode.BACKEND_WITHOUT_ENDPOINTS, route(rule), deployment(0), mesh=IN_MESH) == []


def test_a_selector_that_selects_nothing_is_told() -> None:
    assert places(LintCode.SELECTS_NOTHING, deployment(1, app="ratings"), mesh=IN_MESH) == [
        "Service default/reviews spec.selector"
    ]
    assert places(LintCode.SELECTS_NOTHING, deployment(0), mesh=IN_MESH) == []


def test_the_service_of_a_waypoint_selects_pods_that_no_file_has() -> None:
    own = SERVICE.replace("app: reviews", "gateway.networking.k8s.io/gateway-name: waypoint")

    assert places(LintCode.SELECTS_NOTHING, own, deployment(1)) == []


@pytest.mark.parametrize(
    ("port", "field"),
    [
        ("name: web, port: 80", "name"),
        ("port: 80", "name"),
        ("name: http, port: 80, appProtocol: example.com/x", "appProtocol"),
    ],
)
def test_a_port_that_does_not_say_what_it_carries_is_told(port: str, field: str) -> None:
    service = SERVICE.replace("name: http, port: 80", port)

    found = places(LintCode.PORT_NAME_WITHOUT_PROTOCOL, service, mesh=f"{NAMESPACE}---{WAYPOINT}")

    assert found == [f"Service default/reviews spec.ports[0].{field}"]


@pytest.mark.parametrize(
    "port", ["name: http-web, port: 80", "port: 80, appProtocol: http", "name: web, port: 80, protocol: UDP"]
)
def test_a_port_that_says_what_it_carries_is_left_alone(port: str) -> None:
    service = SERVICE.replace("name: http, port: 80", port)

    assert places(LintCode.PORT_NAME_WITHOUT_PROTOCOL, service, mesh=f"{NAMESPACE}---{WAYPOINT}") == []


def test_where_no_waypoint_stands_ports_need_not_say_what_they_carry() -> None:
    assert places(LintCode.PORT_NAME_WITHOUT_PROTOCOL, SERVICE.replace("name: http, ", ""), mesh=WAYPOINT) == []
    assert places(LintCode.PORT_NAME_WITHOUT_PROTOCOL, mesh=MESH) == []
