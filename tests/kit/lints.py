"""Return the findings of the lints about manifests, together with a small mesh that has none."""

from l4.config.codes import Code
from l4.config.documents import Problem
from tests.kit.snapshots import documents_of, followed
from waypoint.ask.lint import Subject, lint

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
"""
WAYPOINT = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: pywaypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: Hostname, value: waypoint.default.svc.cluster.local}]}
"""
REVIEWS = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews}
spec: {replicas: 3, template: {metadata: {labels: {app: reviews}}}}
"""
MESH = "---".join((NAMESPACE, WAYPOINT, REVIEWS))


def route(rules: str, name: str = "reviews", parent: str = '{group: "", kind: Service, name: reviews}') -> str:
    """Return an HTTPRoute. The name that sorts first counts as older."""
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec: {{parentRefs: [{parent}], rules: [{rules}]}}
"""


def lints(*manifests: str, mesh: str = MESH) -> list[Problem]:
    """Return the findings, those about the manifests first, then those about the mesh."""
    documents = documents_of(mesh=mesh, case="\n---\n".join(manifests))
    found = followed(documents)
    assert found.taken.problems == frozenset()
    return sorted(lint(Subject(documents, found.resources, found.registry, [found.snapshot])))


def places(code: Code, *manifests: str, mesh: str = MESH) -> list[str]:
    """Return the object and field of every finding with this code."""
    return [f"{it.subject} {it.field}".rstrip() for it in lints(*manifests, mesh=mesh) if it.code is code]
