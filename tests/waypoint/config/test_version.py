"""Names of snapshots, which tell whether anything is another."""

from dataclasses import replace

from l4.discovery.registry import Moved
from policies.attributes import ClusterName
from tests.kit.snapshots import compiled, documents_of
from waypoint.config.snapshot import ClusterConfig, Snapshot
from waypoint.config.version import Version

TEXT = """
{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {istio.io/use-waypoint: waypoint}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{value: 10.9.9.9}]}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {clusterIP: 10.1.0.1, ports: [{port: 80}], selector: {app: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
status: {podIP: 10.0.0.1}
"""


def snapshot_of(text: str = TEXT) -> Snapshot:
    return compiled(documents_of(mesh=text))


def with_cluster(snapshot: Snapshot, config: ClusterConfig) -> Snapshot:
    return replace(snapshot, clusters={**snapshot.clusters, config.name: config})


def test_equal_snapshots_have_equal_names_and_others_have_others() -> None:
    texts = (
        TEXT,
        TEXT.replace("10.0.0.1", "10.0.0.2"),
        TEXT.replace("port: 80", "port: 81"),
        TEXT.replace("10.1", "10.2"),
    )

    names = [Version(snapshot_of(text)).name(snapshot_of(text)) for text in texts]

    assert len(set(names)) == len(names)
    assert names == [snapshot_of(text).version for text in texts]


def test_a_cluster_that_is_followed_has_the_name_of_one_that_is_there_from_the_start() -> None:
    before = snapshot_of()
    (config,) = before.clusters.values()
    changed, new = replace(config, endpoints=()), replace(config, name=ClusterName("new"))
    version = Version(before)

    for its, after in (
        ([Moved(config, changed), Moved(None, new)], with_cluster(with_cluster(before, changed), new)),
        ([Moved(changed, config), Moved(new, None)], before),
    ):
        version.follow(its, [])

        assert version.name(after) == Version(after).name(after)


def test_a_destination_and_a_workload_that_are_followed_have_that_too() -> None:
    before = snapshot_of()
    place, destination = next(iter(before.destinations.items()))
    uid, workload = next(iter(before.registry.workloads.items()))
    moved = replace(workload, node="n2")
    registry = replace(before.registry, workloads={uid: moved})
    version = Version(before)

    version.follow([], [Moved(workload, moved)])
    version.follow_destinations({place: destination}, {("10.7.7.7", 80): destination})

    destinations = {it: its for it, its in before.destinations.items() if it != place} | {("10.7.7.7", 80): destination}
    after = replace(before, registry=registry, destinations=destinations)
    assert version.name(after) == Version(after).name(after)
