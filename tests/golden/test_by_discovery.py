"""A waypoint that learns the workloads from a discovery server compiles what one compiles that reads all objects."""

from dataclasses import replace

import pytest

from l4.config.documents import Document
from l4.config.source import Documents
from l4.discovery.mesh import Mesh
from l4.xds.joined_mesh import JoinedMesh
from tests.golden.test_golden import CASES, HERE
from tests.kit.served import Client, Served
from tests.kit.snapshots import documents_of, followed
from waypoint.config.kinds import BESIDE_DISCOVERY
from waypoint.config.snapshot import Snapshot

MESH = Mesh()


def by_discovery(read: list[Document], sent: list[Document]) -> Snapshot:
    """The snapshot of a waypoint that reads some objects, and whose server knows all that are `sent`."""
    served, joined = Served(MESH), JoinedMesh(MESH)
    served.take(Documents(tuple(sorted(sent, key=lambda it: it.key))))
    joined.arrive(Client(served, MESH).receive())
    return followed(read, kinds=BESIDE_DISCOVERY, join=joined.take).snapshot


@pytest.mark.parametrize("name", CASES)
def test_the_snapshot_is_the_same(name: str) -> None:
    mesh, case = (HERE / "mesh.yaml").read_text(), (HERE / f"{name}.in.yaml").read_text()
    documents = documents_of(mesh=mesh, case=case)

    found = by_discovery(documents, documents)

    expected, registry = followed(documents).snapshot, found.registry
    assert found.clusters == expected.clusters
    assert replace(found, version="", registry=registry) == replace(expected, version="", registry=registry)


LABELS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: gold, labels: {tier: gold}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - {match: [{sourceLabels: {app: reviews}}], route: [{destination: {host: reviews, subset: v1, port: {number: 9080}}}]}
  - {match: [{sourceLabels: {tier: gold}}], route: [{destination: {host: reviews, port: {number: 9080}}}]}
  - {route: [{destination: {host: reviews, subset: gold, port: {number: 9080}}}]}
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-v1, namespace: default, labels: {app: reviews, version: v1, tier: gold}}
status: {podIP: 10.0.0.1}
"""


def test_a_label_that_discovery_does_not_carry_selects_nothing_and_is_told() -> None:
    documents = documents_of(mesh=(HERE / "mesh.yaml").read_text(), case=LABELS + POD)
    found = by_discovery([it for it in documents if it.key.kind != "Pod"], documents)

    endpoints = {
        name.split("|")[2].rpartition("/")[2]: [it.ip for it in config.endpoints]
        for name, config in found.clusters.items()
        if "reviews" in name and "9080" in name
    }
    told = {it.field: it.sentence for it in found.problems}
    assert endpoints == {"http": ["10.0.0.1", "10.0.0.2"], "v1": ["10.0.0.1"], "gold": []}
    assert told.keys() == {"spec.subsets[1].labels", "spec.http[1].match[0].sourceLabels"}
    assert "the labels tier=gold, so requests to this subset get 503" in told["spec.subsets[1].labels"]
    assert "discovery does not carry their labels tier" in told["spec.http[1].match[0].sourceLabels"]
    assert by_discovery(documents, documents).problems == ()
