"""Lints read kinds that nothing has validated, and skip values of any unexpected type."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from l4.config.documents import Document
from tests.kit.lints import MESH, route
from tests.kit.snapshots import documents_of, followed
from waypoint.ask.lint import Subject, lint

JUNK = (7, 1.5, float("inf"), "text", True, [], {}, [7], {"a": 7}, [[]], [{}])
MANIFESTS = {
    "route": route("{backendRefs: [{name: reviews, port: 80}]}").replace("rules:", "hostnames: [a.b], rules:"),
    "mesh": MESH,
    "policy": """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: policy}
spec:
  action: ALLOW
  rules:
  - from: [{source: {requestPrincipals: ["*"]}}]
    to: [{operation: {paths: [/admin]}}]
    when: [{key: "request.auth.claims[a]", values: [b]}]
""",
    "network": """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: policy}
spec: {podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress], ingress: [{ports: [{port: 1, endPort: 2}]}]}
""",
    "rule": """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: rule}
spec:
  host: reviews
  trafficPolicy: {outlierDetection: {maxEjectionPercent: 10}, portLevelSettings: [{outlierDetection: {}}]}
  subsets: [{trafficPolicy: {outlierDetection: {}}}]
""",
    "job": """
apiVersion: batch/v1
kind: CronJob
metadata: {name: job}
spec: {jobTemplate: {spec: {template: {metadata: {labels: {app: a}}}}}}
""",
}


def spoiled(value: Any) -> Iterator[Any]:
    """The value with each of its parts, in turn, replaced by each piece of junk."""
    yield from JUNK
    if isinstance(value, dict):
        yield from ({**value, key: it} for key, part in value.items() for it in spoiled(part))
    elif isinstance(value, list):
        yield from (
            [*value[:index], it, *value[index + 1 :]] for index, part in enumerate(value) for it in spoiled(part)
        )


def spoiled_documents(documents: list[Document]) -> Iterator[list[Document]]:
    for index, document in enumerate(documents):
        for part in ("metadata", "spec"):
            for it in spoiled(document.content.get(part)):
                changed = replace(document, content={**document.content, part: it})
                yield [*documents[:index], changed, *documents[index + 1 :]]


@pytest.mark.parametrize("name", MANIFESTS)
def test_nothing_in_the_place_of_a_value_stops_the_lints(name: str) -> None:
    around = documents_of(around=MESH) if name != "mesh" else []

    for documents in spoiled_documents(documents_of(case=MANIFESTS[name])):
        everything = [*documents, *around]
        found = followed(everything)

        lint(Subject(everything, found.resources, found.registry, [found.snapshot]))
