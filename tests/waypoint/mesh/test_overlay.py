from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l4.config.documents import ObjectKey
from l4.config.manifest import parse
from waypoint.mesh.manifests import Container, ContainerPort
from waypoint.mesh.overlay import overlay, write
from waypoint.mesh.plan import Mesh, Waypoint
from waypoint.mesh.pods import Pod, Process

SERVICE = ObjectKey("", "Service", "default", "reviews")
GATEWAY = ObjectKey("gateway.networking.k8s.io", "Gateway", "default", "waypoint")
CONTENTS = {
    SERVICE: {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "reviews", "labels": {"a": "b"}},
        "spec": {"ports": []},
    },
    GATEWAY: {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "waypoint"},
        "spec": {"gatewayClassName": "pywaypoint"},
    },
}
CONTAINER = Container("reviews", "bookinfo/reviews:1", ports=(ContainerPort(9080, "http"),))
REVIEWS = Pod(
    namespace="default",
    name="reviews-v1-0",
    address="127.64.0.3",
    service_account="bookinfo-reviews",
    labels={"app": "reviews"},
    annotations={"note": "kept"},
    capture="127.128.0.0/16",
    owner=ObjectKey("apps", "Deployment", "default", "reviews-v1"),
    processes=(Process("default/reviews-v1-0", (), Path("/"), CONTAINER, "127.64.0.3", 9080, {}),),
)
WAYPOINT = Waypoint(
    GATEWAY,
    "127.96.0.9",
    Pod("default", "waypoint", "127.64.0.2", "waypoint", {"gateway.networking.k8s.io/gateway-name": "waypoint"}),
)


def objects(mesh: Mesh, *ready: str) -> dict[str, Mapping[str, Any]]:
    return {
        f"{content['kind']} {content['metadata']['name']}": content
        for content in overlay(mesh, CONTENTS, frozenset(ready))
    }


def test_a_service_is_the_users_with_an_address() -> None:
    found = objects(Mesh(services={SERVICE: "127.96.0.1"}))

    assert found["Service reviews"] == {
        **CONTENTS[SERVICE],
        "spec": {"ports": [], "clusterIP": "127.96.0.1", "clusterIPs": ["127.96.0.1"]},
    }


def test_a_pod_says_who_it_is_where_it_is_captured_and_to_whom_it_belongs() -> None:
    pod = objects(Mesh(pods=(REVIEWS,)))["Pod reviews-v1-0"]

    assert pod["metadata"]["labels"] == {"app": "reviews"}
    assert pod["metadata"]["annotations"] == {
        "note": "kept",
        "ambient.istio.io/redirection": "enabled",
        "pywaypoint.dev/outbound-capture": "127.128.0.0/16",
    }
    assert pod["metadata"]["ownerReferences"][0]["name"] == "reviews-v1"
    assert pod["spec"]["nodeName"] == "laptop"
    assert pod["spec"]["serviceAccountName"] == "bookinfo-reviews"
    assert pod["spec"]["containers"][0]["ports"] == [{"name": "http", "containerPort": 9080, "protocol": "TCP"}]
    assert pod["status"]["podIP"] == "127.64.0.3"


def test_a_pod_is_ready_when_it_is_said_to_be() -> None:
    mesh = Mesh(pods=(REVIEWS,))

    before = objects(mesh)["Pod reviews-v1-0"]
    after = objects(mesh, "default/reviews-v1-0")["Pod reviews-v1-0"]

    assert before["status"]["conditions"] == [{"type": "Ready", "status": "False"}]
    assert after["status"]["conditions"] == [{"type": "Ready", "status": "True"}]


def test_an_ingress_is_always_ready() -> None:
    ingress = Pod("default", "ingress", "127.64.0.4", "ingress", capture="127.0.0.1:9080=127.96.0.1:9080")

    pod = objects(Mesh(ingresses=(ingress,)))["Pod ingress"]

    assert pod["status"]["conditions"] == [{"type": "Ready", "status": "True"}]
    assert pod["metadata"]["annotations"]["pywaypoint.dev/outbound-capture"] == ingress.capture


def test_a_gateway_has_a_host_name_and_its_waypoint_a_service_and_a_pod() -> None:
    found = objects(Mesh(waypoints=(WAYPOINT,)), "default/waypoint")

    hostname = "waypoint.default.svc.cluster.local"
    assert found["Gateway waypoint"]["spec"] == CONTENTS[GATEWAY]["spec"]
    assert found["Gateway waypoint"]["status"] == {"addresses": [{"type": "Hostname", "value": hostname}]}
    assert found["Service waypoint"]["spec"]["clusterIP"] == "127.96.0.9"
    assert found["Service waypoint"]["spec"]["ports"][0]["port"] == 15008
    selector = found["Service waypoint"]["spec"]["selector"]
    assert selector.items() <= found["Pod waypoint"]["metadata"]["labels"].items()
    assert found["Pod waypoint"]["status"]["podIP"] == "127.64.0.2"


def test_the_pod_of_a_waypoint_is_not_left_to_the_ztunnel() -> None:
    pod = objects(Mesh(waypoints=(WAYPOINT,)))["Pod waypoint"]

    assert "nodeName" not in pod["spec"]
    assert "ambient.istio.io/redirection" not in pod["metadata"]["annotations"]


def test_the_file_appears_whole_and_reads_back_equal(tmp_path: Path) -> None:
    mesh = Mesh(pods=(REVIEWS,), waypoints=(WAYPOINT,), services={SERVICE: "127.96.0.1"})
    path = tmp_path / "mesh.yaml"

    write(path, overlay(mesh, CONTENTS, frozenset()))

    documents, problems = parse(str(path), path.read_bytes())
    assert problems == []
    assert [document.content for document in documents] == list(overlay(mesh, CONTENTS, frozenset()))
    assert list(tmp_path.iterdir()) == [path]
