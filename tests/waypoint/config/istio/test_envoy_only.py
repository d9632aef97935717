"""What is told of kinds that only Envoy obeys."""

import pytest

from l4.config.codes import DocumentCode
from l4.config.settings import Settings
from l4.config.source import Documents
from tests.kit.snapshots import documents_of
from waypoint.config.pipeline import Compiled, Pipeline

MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/use-waypoint: ours}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ours, namespace: shop}
spec: {gatewayClassName: pywaypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{value: 10.0.9.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: alone, namespace: shop, labels: {istio.io/use-waypoint: none}}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
"""
KINDS = {
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "WasmPlugin": "extensions.istio.io/v1alpha1",
    "TrafficExtension": "extensions.istio.io/v1alpha1",
}
GATEWAY_API = "gateway.networking.k8s.io"


def compiled(kind: str, spec: str, namespace: str = "shop") -> Compiled:
    its = f"""
---
apiVersion: {KINDS[kind]}
kind: {kind}
metadata: {{name: own, namespace: {namespace}, generation: 3}}
spec: {spec}
"""
    documents = sorted(documents_of(case=MESH + its), key=lambda it: it.key)
    return Pipeline(("shop", "ours"), Settings()).compile(Documents(tuple(documents)))


def told(it: Compiled) -> list[str]:
    return [problem.field for problem in it.problems if problem.code is DocumentCode.NOT_CARRIED_OUT]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("target", "namespace"),
    [
        ("{group: '', kind: Service, name: cart}", "shop"),
        (f"{{group: {GATEWAY_API}, kind: Gateway, name: ours}}", "shop"),
        (f"{{group: {GATEWAY_API}, kind: GatewayClass, name: istio-waypoint}}", "istio-system"),
        (f"{{group: {GATEWAY_API}, kind: GatewayClass, name: pywaypoint}}", "istio-system"),
    ],
)
def test_the_author_of_one_for_our_waypoint_is_told_that_it_has_no_effect(
    kind: str, target: str, namespace: str
) -> None:
    it = compiled(kind, f"{{targetRefs: [{target}], configPatches: [{{applyTo: HTTP_FILTER}}]}}", namespace)

    assert told(it) == ["spec.targetRefs[0]"]
    (status,) = [its for its in it.snapshot.statuses if its.key.kind == kind]
    (condition,) = status.conditions  # type: ignore[union-attr]
    assert (condition.type, condition.is_true, condition.reason) == ("WaypointAccepted", False, "Unsupported")
    assert f"replace the {kind} by routes and policies" in condition.message


@pytest.mark.parametrize(
    ("spec", "namespace"),
    [
        ("{configPatches: []}", "shop"),
        ("{workloadSelector: {labels: {app: cart}}}", "shop"),
        ("{targetRefs: [{group: '', kind: Service, name: alone}]}", "shop"),
        (f"{{targetRefs: [{{group: {GATEWAY_API}, kind: Gateway, name: istio}}]}}", "shop"),
        (f"{{targetRefs: [{{group: {GATEWAY_API}, kind: Gateway, name: ours}}]}}", "other"),
        (f"{{targetRefs: [{{group: {GATEWAY_API}, kind: GatewayClass, name: istio-waypoint}}]}}", "shop"),
    ],
)
def test_one_that_does_not_concern_our_waypoint_is_left_alone(spec: str, namespace: str) -> None:
    it = compiled("EnvoyFilter", spec, namespace)

    assert it.problems == ()
    assert not [its for its in it.snapshot.statuses if its.key.kind == "EnvoyFilter"]


def test_each_target_is_told_the_single_one_too() -> None:
    it = compiled("WasmPlugin", "{targetRef: {group: '', kind: Service, name: cart}, url: 'oci://x'}")

    assert told(it) == ["spec.targetRef"]
