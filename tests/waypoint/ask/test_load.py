from pathlib import Path

from l4.config.settings import Settings
from waypoint.ask.load import load
from waypoint.config.settings import ConfigSettings

GOLDEN = Path(__file__).parents[2] / "golden"
ROUTES = GOLDEN / "several-routes.in.yaml"
MESH = GOLDEN / "mesh.yaml"

OTHER = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: other, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Service
metadata: {name: bound, namespace: shop, labels: {istio.io/use-waypoint: other}}
spec: {ports: [{name: http, port: 80}]}
"""


def test_files_become_the_snapshot_that_the_waypoint_would_have() -> None:
    loaded = load([MESH, ROUTES], ("default", "waypoint"), Settings())

    assert loaded.problems == ()
    (snapshot,) = loaded.snapshots.values()
    assert snapshot.has_gateway
    assert {route.rule.name for route in snapshot.destinations["10.96.0.1", 9080].routes.routes} != {"default"}
    assert loaded.registry is snapshot.registry


def test_without_a_gateway_given_every_one_that_serves_a_service_has_its_snapshot(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(OTHER)

    loaded = load([MESH, tmp_path], None, Settings())

    assert list(loaded.snapshots) == [("default", "waypoint"), ("shop", "other")]
    assert ("bound.shop.svc.cluster.local", 80) in loaded.snapshots["shop", "other"].destinations


def test_a_gateway_whose_status_says_that_it_has_no_address_serves_nothing(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(OTHER.replace("\n---", "\nstatus: {addresses: []}\n---", 1))

    loaded = load([tmp_path], None, Settings())

    assert loaded.snapshots == {}
    assert ["it has no address in its status yet" in problem.sentence for problem in loaded.problems] == [True]


def test_every_problem_is_told_even_when_nothing_is_served(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "wrong.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: 7}")

    loaded = load([tmp_path], None, Settings())

    assert loaded.snapshots == {}
    assert [Path(problem.origin.file).name for problem in loaded.problems] == ["bad.yaml", "wrong.yaml"]


def test_kinds_that_a_waypoint_does_not_read_are_counted_and_kept_as_documents(tmp_path: Path) -> None:
    (tmp_path / "range.yaml").write_text("apiVersion: v1\nkind: LimitRange\nmetadata: {name: a}\nspec: {}")

    loaded = load([tmp_path], None, Settings())

    assert loaded.ignored == {"LimitRange": 1}
    assert [document.key.kind for document in loaded.documents] == ["LimitRange"]


REPLICAS = """
apiVersion: v1
kind: Node
metadata: {{name: {0}, labels: {{topology.kubernetes.io/region: {0}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {0}, labels: {{gateway.networking.k8s.io/gateway-name: waypoint}}}}
spec: {{nodeName: {0}}}
status: {{podIP: {1}}}
"""
NEAR_FIRST = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: near-first}
spec:
  host: reviews
  trafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: true}}}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: reviews}}
spec: {nodeName: r1}
status: {podIP: 10.9.1.1}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: reviews}}
spec: {nodeName: r2}
status: {podIP: 10.9.1.2}
"""


def test_of_several_gateways_only_the_one_whose_pod_we_are_ranks_endpoints_by_where_we_are(tmp_path: Path) -> None:
    replicas = (REPLICAS.format(*it) for it in (("r1", "10.9.0.1"), ("r2", "10.9.0.2")))
    (tmp_path / "mesh.yaml").write_text("\n---\n".join((*replicas, NEAR_FIRST, OTHER)))
    settings = Settings(ConfigSettings(instance_ip="10.9.0.2"))

    def loaded(gateway: tuple[str, str] | None, its: Settings) -> dict[tuple[str, str], str]:
        return {name: it.version for name, it in load([MESH, tmp_path], gateway, its).snapshots.items()}

    ours, other = ("default", "waypoint"), ("shop", "other")
    everywhere, here = loaded(None, Settings()), loaded(None, settings)
    assert here[ours] == loaded(ours, settings)[ours] != everywhere[ours]
    assert here[other] == everywhere[other]
