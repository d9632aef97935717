"""Our waypoint's configuration for a setup: one Service whose endpoint is Envoy, and policies for it.

Objects are written as JSON, which is YAML too.
"""

import json
from collections.abc import Iterator
from typing import Any

from bench import setups
from bench.setups import Setup, area
from bench.tokens import ISSUER

Document = dict[str, Any]
_RULES_OF_A_ROUTE = 16
_TARGETS = [{"group": "", "kind": "Service", "name": "app"}]


def manifests(setup: Setup, *, endpoint: str, jwks: str, version: int = 0) -> str:
    """`endpoint` is the address of the one pod. Another version is another configuration that does the same."""
    return "\n---\n".join(json.dumps(it) for it in _documents(setup, endpoint, jwks, version))


def _documents(setup: Setup, endpoint: str, jwks: str, version: int) -> Iterator[Document]:
    yield _document(
        "v1", "Namespace", "default", labels={"istio.io/use-waypoint": "waypoint", "istio.io/dataplane-mode": "ambient"}
    )
    listener = {"name": "mesh", "port": 15008, "protocol": "HBONE"}
    yield _document(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        "waypoint",
        {"gatewayClassName": "pywaypoint", "listeners": [listener]},
        status={"addresses": [{"type": "Hostname", "value": "waypoint.default.svc.cluster.local"}]},
    )
    web = [("http", setups.HTTP_PORT), ("grpc", setups.GRPC_PORT)]
    yield _service("app", setups.SERVICE, web)
    yield _service("app-tcp", setups.SERVICE_TCP, [("tcp", setups.TCP_PORT)])
    yield _document(
        "v1",
        "Pod",
        "app-1",
        {"serviceAccountName": "app"},
        labels={"app": "app"},
        annotations={"ambient.istio.io/redirection": "enabled"},
        status={"podIP": endpoint},
    )
    rules = [_rule(setup, setups.HTTP_PORT, number, version) for number in range(setup.routes - 1)]
    rules.append(_rule(setup, setups.HTTP_PORT))
    for first in range(0, len(rules), _RULES_OF_A_ROUTE):
        yield _route(f"app-{first}", "app", setups.HTTP_PORT, rules[first : first + _RULES_OF_A_ROUTE])
    yield _route("app-grpc", "app", setups.GRPC_PORT, [_rule(setup, setups.GRPC_PORT)])
    for number in range(setup.services):
        yield _service(f"s{number}", f"127.97.{number >> 8}.{number & 255}", web)
        yield _route(f"s{number}", f"s{number}", setups.HTTP_PORT, [_rule(setup, setups.HTTP_PORT)])
    yield from _policies(setup, jwks)


def _policies(setup: Setup, jwks: str) -> Iterator[Document]:
    if setup.rules:
        blocked = {"from": [_principal("cluster.local/ns/default/sa/blocked")]}
        yield _security("AuthorizationPolicy", "deny", {"action": "DENY", "rules": [blocked]})
        allowed = [{"from": [_principal(setups.stranger(number))]} for number in range(setup.rules - 1)]
        yield _security("AuthorizationPolicy", "allow", {"rules": [*allowed, {"from": [_principal(setups.CLIENT)]}]})
    if setup.token:
        yield _security("RequestAuthentication", "tokens", {"jwtRules": [{"issuer": ISSUER, "jwks": jwks}]})
    if setup.resilience:
        pool = {
            "tcp": {"maxConnections": setups.CONNECTIONS},
            "http": {"http1MaxPendingRequests": setups.CONNECTIONS, "http2MaxRequests": setups.CONNECTIONS},
        }
        ejection = {
            "consecutive5xxErrors": setups.FAILURES,
            "interval": f"{setups.EJECTION_INTERVAL_SECONDS}s",
            "maxEjectionPercent": 100,
        }
        policy = {"connectionPool": pool, "outlierDetection": ejection}
        spec: Document = {"host": "app.default.svc.cluster.local", "trafficPolicy": policy}
        yield _document("networking.istio.io/v1", "DestinationRule", "app", spec)
    if setup.limits:
        limit = {"name": "all", "limit": {"requests": setups.LIMIT_PER_SECOND, "unit": "Second"}}
        spec = {"targetRefs": _TARGETS, "rules": [limit]}
        yield _document("pywaypoint.dev/v1alpha1", "RateLimitPolicy", "app", spec)
    if setup.tracing:
        spec = {"tracing": [{"randomSamplingPercentage": setup.sampled_percent}]}
        yield _document("telemetry.istio.io/v1", "Telemetry", "default", spec)
    if not setup.metrics:
        disabled = [{"providers": [{"name": "prometheus"}], "overrides": [{"disabled": True}]}]
        spec = {"targetRefs": _TARGETS, "metrics": disabled}
        yield _document("telemetry.istio.io/v1", "Telemetry", "app", spec)


def _rule(setup: Setup, port: int, number: int | None = None, version: int = 0) -> Document:
    """The rule of an area, or the one that takes everything."""
    rule: Document = {"backendRefs": [{"name": "app", "port": port}]}
    if number is not None:
        rule["matches"] = [{"path": {"value": area(number)}}, {"path": {"value": f"{area(number)}.{version}"}}]
    if setup.resilience:
        rule["timeouts"] = {"request": f"{setups.TIMEOUT_SECONDS}s"}
        rule["retry"] = {"codes": [503], "attempts": setups.RETRIES}
    if setup.mirror:
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "app", "port": port}}}]
    return rule


def _route(name: str, service: str, port: int, rules: list[Document]) -> Document:
    parent = {"group": "", "kind": "Service", "name": service, "port": port}
    return _document("gateway.networking.k8s.io/v1", "HTTPRoute", name, {"parentRefs": [parent], "rules": rules})


def _service(name: str, address: str, ports: list[tuple[str, int]]) -> Document:
    listed = [{"name": port, "port": number} for port, number in ports]
    return _document("v1", "Service", name, {"clusterIP": address, "selector": {"app": "app"}, "ports": listed})


def _security(kind: str, name: str, spec: Document) -> Document:
    return _document("security.istio.io/v1", kind, name, {"targetRefs": _TARGETS, **spec})


def _principal(name: str) -> Document:
    return {"source": {"principals": [name]}}


def _document(version: str, kind: str, name: str, spec: Document | None = None, **more: Document) -> Document:
    metadata: Document = {"name": name, **{key: more.pop(key) for key in ("labels", "annotations") if key in more}}
    if kind != "Namespace":
        metadata["namespace"] = "default"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **({"spec": spec} if spec else {}), **more}
