import json
from dataclasses import replace

from waypoint.controller.kinds import OWNED
from waypoint.controller.rendering import Installation, Object, Waypoint, objects

WAYPOINT = Waypoint("shop", "front", "u1", "pywaypoint", {"team": "a"}, {"note": "b"})
INSTALLATION = Installation("image:1", "ca:15012")


def made(kind: str) -> Object:
    (found,) = (it for it in objects(WAYPOINT, INSTALLATION) if it["kind"] == kind)
    return found


def test_every_object_is_named_like_the_gateway_and_owned_by_it() -> None:
    found = objects(WAYPOINT, INSTALLATION)

    assert [it["kind"] for it in found] == list(OWNED)
    for it in found:
        assert (it["metadata"]["namespace"], it["metadata"]["name"]) == ("shop", "front")
        assert it["apiVersion"] == OWNED[it["kind"]].api_version
        (owner,) = it["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("Gateway", "front", "u1", True)


def test_pods_have_the_labels_of_a_waypoint_and_those_of_the_infrastructure() -> None:
    template = made("Deployment")["spec"]["template"]["metadata"]

    assert template["labels"]["gateway.networking.k8s.io/gateway-name"] == "front"
    assert template["labels"]["gateway.istio.io/managed"] == "istio.io-mesh-controller"
    assert template["labels"]["istio.io/dataplane-mode"] == "none"
    assert template["labels"]["team"] == "a"
    assert template["annotations"]["note"] == "b"


def test_all_selectors_name_the_pods() -> None:
    labels = made("Deployment")["spec"]["template"]["metadata"]["labels"]

    for selector in (
        made("Service")["spec"]["selector"],
        made("Deployment")["spec"]["selector"]["matchLabels"],
        made("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_pods_are_restricted() -> None:
    pod = made("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_autoscaler_alone_says_how_many_replicas_there_are() -> None:
    assert "replicas" not in made("Deployment")["spec"]
    assert made("HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2


def test_the_same_gateway_gives_the_same_objects() -> None:
    assert json.dumps(objects(WAYPOINT, INSTALLATION)) == json.dumps(objects(WAYPOINT, INSTALLATION))


def test_waypoints_follow_a_discovery_server_if_the_installation_names_one() -> None:
    def arguments(installation: Installation) -> list[str]:
        (deployment,) = (it for it in objects(WAYPOINT, installation) if it["kind"] == "Deployment")
        return list(deployment["spec"]["template"]["spec"]["containers"][0]["args"])

    with_server = replace(INSTALLATION, discovery="istiod.istio-system.svc:15012")

    assert arguments(with_server)[len(arguments(INSTALLATION)) :] == [
        "--discovery=istiod.istio-system.svc:15012",
        "--discovery-root=/var/run/secrets/istio/root-cert.pem",
        "--discovery-token=/var/run/secrets/tokens/istio-token",
    ]


def test_waypoints_have_the_workers_of_the_installation() -> None:
    def workers(installation: Installation) -> list[str]:
        (deployment,) = (it for it in objects(WAYPOINT, installation) if it["kind"] == "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return [it["value"] for it in container["env"] if it["name"] == "WAYPOINT_WORKERS"]

    assert workers(INSTALLATION) == []
    assert workers(replace(INSTALLATION, workers="auto")) == ["auto"]
