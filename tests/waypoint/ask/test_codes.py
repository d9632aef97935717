"""A manifest for each code of the compiler that has the problem, and a similar one that has not. Lints are tested in
`lint/`.
"""

from pathlib import Path

import pytest

from l4.config.codes import Code, DocumentCode
from l4.config.settings import Settings
from l4.discovery.codes import DiscoveryCode
from tests.kit.lints import MESH, NAMESPACE, REVIEWS, route
from waypoint.ask.analyze import analyze
from waypoint.ask.load import load
from waypoint.config.codes import ConfigCode
from waypoint.config.settings import ConfigSettings

SETTINGS = Settings(ConfigSettings(requires_reference_grants=True))
FINE = route("{backendRefs: [{name: reviews, port: 80}]}")
OTHER_NAMESPACE = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\nspec: {ports: [{port: 80}]}\n"
GRANT = """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: a, namespace: b}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: "", kind: Service}]
"""
ACROSS = route("{backendRefs: [{name: a, namespace: b, port: 80}]}")
TELEMETRY = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: a}
spec: {accessLogging: [{providers: [{name: NAME}]}]}
"""

EXAMPLES = {
    DocumentCode.INVALID: (FINE.replace("rules:", "hostnames: 5\n  rules:"), FINE),
    ConfigCode.RULE_INVALID: (FINE.replace("port: 80", "port: 800000"), FINE),
    DocumentCode.UNKNOWN_FIELD: (
        FINE.replace("port: 80", "port: 80, wait: 9"),
        FINE.replace("port: 80", "port: 80, weight: 9"),
    ),
    ConfigCode.PARENT_NOT_FOUND: (FINE.replace("Service, name: reviews", "Service, name: nobody"), FINE),
    ConfigCode.PARENT_PORT_NOT_FOUND: (
        FINE.replace("Service, name: reviews", "Service, name: reviews, port: 81"),
        FINE.replace("Service, name: reviews", "Service, name: reviews, port: 80"),
    ),
    ConfigCode.BACKEND_NOT_FOUND: (FINE.replace("port: 80", "port: 81"), FINE),
    ConfigCode.BACKEND_KIND_UNKNOWN: (FINE.replace("port: 80", "port: 80, kind: Bucket"), FINE),
    ConfigCode.REFERENCE_NOT_PERMITTED: (f"{OTHER_NAMESPACE}---{ACROSS}", f"{OTHER_NAMESPACE}---{GRANT}---{ACROSS}"),
    ConfigCode.FILTER_INVALID: (
        route("{filters: [{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}]}"),
        route("{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x]}}]}"),
    ),
    ConfigCode.PROTOCOL_MISMATCH: (
        f"{FINE}---{REVIEWS.replace('name: http', 'name: tcp')}",
        f"{FINE}---{REVIEWS.replace('name: http', 'name: grpc')}",
    ),
    ConfigCode.TELEMETRY_INVALID: (TELEMETRY.replace("NAME", "nobody"), TELEMETRY.replace("NAME", "envoy")),
    DiscoveryCode.CANARY_NOT_USED: (
        NAMESPACE.replace("use-waypoint: waypoint", "use-waypoint: waypoint, istio.io/use-waypoint-canary: waypoint"),
        NAMESPACE,
    ),
    DiscoveryCode.WAYPOINT_NOT_USED: (NAMESPACE.replace("use-waypoint: waypoint", "use-waypoint: nobody"), NAMESPACE),
}


@pytest.mark.parametrize("code", EXAMPLES)
def test_a_code_is_told_where_it_is_due_and_nowhere_else(code: Code, tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text(MESH)

    told = [
        {it.code for it in analyze(load([tmp_path], None, SETTINGS, stdin=text.encode())).problems}
        for text in EXAMPLES[code]
    ]

    assert code in told[0]
    assert code not in told[1]
