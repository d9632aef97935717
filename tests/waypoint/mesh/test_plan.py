import re
from pathlib import Path

import pytest

from l4.config.documents import ObjectKey
from l4.config.manifest import parse
from l4.config.resources import Decoder, Resources
from waypoint.mesh.addresses import Addresses
from waypoint.mesh.ingress import Ingress
from waypoint.mesh.manifests import KINDS
from waypoint.mesh.plan import Mesh, plan
from waypoint.mesh.programs import Program

PROGRAMS = (Program("bookinfo/*", ("serve",), Path("/src"), {}, Path("/")),)

REVIEWS = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {ports: [{name: http, port: 9080}], selector: {app: reviews}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: reviews}}
    spec:
      serviceAccountName: bookinfo-reviews
      containers: [{name: reviews, image: bookinfo/reviews:1, ports: [{containerPort: 9080}]}]
"""
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: pywaypoint}
"""


def resources(*texts: str) -> Resources:
    documents, problems = parse("mesh.yaml", "\n---\n".join(texts).encode())
    decoded = Decoder(KINDS).decode(documents)
    assert [*problems, *decoded.problems] == []
    return decoded.resources


def plan_of(*texts: str, ingress: str = "", earlier: Addresses | None = None) -> Mesh:
    ingresses = (Ingress.parse(ingress),) if ingress else ()
    return plan(resources(*texts), PROGRAMS, ingresses, earlier or Addresses())


def test_services_without_an_address_get_one_and_deployments_become_pods() -> None:
    mesh = plan_of(REVIEWS)

    assert mesh.services == {ObjectKey("", "Service", "default", "reviews"): "127.96.0.1"}
    assert [pod.key for pod in mesh.pods] == ["default/reviews-v1-0", "default/reviews-v1-1"]
    assert mesh.problems == ()


def test_a_service_keeps_the_address_that_it_brings() -> None:
    mesh = plan_of(REVIEWS.replace("spec: {ports", "spec: {clusterIP: 10.1.2.3, ports"))

    assert mesh.services == {}
    assert mesh.pods[0].processes[0].environment["REVIEWS_SERVICE_HOST"] == "127.128.2.3"


@pytest.mark.parametrize("spec", ["clusterIP: None", "type: ExternalName"])
def test_a_service_that_is_reached_without_an_address_gets_none(spec: str) -> None:
    mesh = plan_of(REVIEWS.replace("spec: {ports", f"spec: {{{spec}, ports"))

    assert mesh.services == {}


def test_a_gateway_of_a_waypoint_class_gets_a_waypoint_with_an_identity_of_its_own() -> None:
    mesh = plan_of(REVIEWS, GATEWAY)

    (waypoint,) = mesh.waypoints
    assert waypoint.address == "127.96.0.2"
    assert waypoint.pod.labels["gateway.networking.k8s.io/gateway-name"] == "waypoint"
    assert waypoint.pod.labels["istio.io/dataplane-mode"] == "none"
    assert "spiffe://cluster.local/ns/default/sa/waypoint" in map(str, mesh.identities)


def test_the_ingress_is_a_pod_that_captures_the_browsers_address() -> None:
    mesh = plan_of(REVIEWS, ingress="reviews=127.0.0.1:8000")

    (pod,) = mesh.ingresses
    assert pod.capture == "127.0.0.1:8000=127.96.0.1:9080"
    assert str(pod.identity) == "spiffe://cluster.local/ns/default/sa/ingress"


@pytest.mark.parametrize(
    ("ingress", "sentence"),
    [
        ("revews", "--ingress default/revews: the manifests do not contain this Service"),
        ("reviews:80", "--ingress default/reviews: the Service has no port 80; it has 9080"),
    ],
)
def test_an_ingress_that_leads_nowhere_is_a_sentence(ingress: str, sentence: str) -> None:
    mesh = plan_of(REVIEWS, ingress=ingress)

    assert mesh.unserved == (sentence,)
    assert mesh.ingresses == ()


def test_addresses_stay_when_the_manifests_grow() -> None:
    before = plan_of(REVIEWS)
    other = REVIEWS.replace("reviews", "details")

    after = plan_of(other, GATEWAY, REVIEWS, earlier=before.addresses)

    assert after.services.items() >= before.services.items()
    assert all(pod in after.pods for pod in before.pods)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            REVIEWS.replace("bookinfo/reviews:1", "nginx"),
            "mesh.yaml: Deployment default/reviews-v1 spec.template.spec.containers: "
            "no program is configured for the image nginx, so it does not run; add one with --programs",
        ),
        (
            GATEWAY.replace("pywaypoint", "istio"),
            "mesh.yaml: Gateway default/waypoint spec.gatewayClassName: "
            "istio is not one of the laptop mesh's classes (pywaypoint and istio-waypoint); it gets no waypoint",
        ),
        (
            REVIEWS.replace("port: 9080}], sel", "port: 80, targetPort: web}], sel"),
            "mesh.yaml: Service default/reviews spec.ports[0].targetPort: "
            "no container of Deployment default/reviews-v1 declares the port web; declared ports are 9080",
        ),
        (
            REVIEWS.replace(
                "ports: [{containerPort", "env: [{name: KEY, valueFrom: {secretKeyRef: {}}}], ports: [{containerPort"
            ),
            "mesh.yaml: Deployment default/reviews-v1 spec.template.spec.containers[reviews].env: "
            "KEY needs a source that only a cluster has, and is ignored",
        ),
    ],
)
def test_what_cannot_be_run_is_said_and_the_rest_goes_on(text: str, problem: str) -> None:
    mesh = plan_of(text, REVIEWS.replace("reviews", "details"))

    assert [re.sub(r"^mesh.yaml:\d+", "mesh.yaml", str(it)) for it in mesh.problems] == [f"{problem} [PWP0401]"]
    assert any(pod.owner and pod.owner.name == "details-v1" for pod in mesh.pods)


@pytest.mark.parametrize("kind", ["StatefulSet", "ReplicaSet", "DaemonSet"])
def test_other_sets_of_pods_run_as_deployments_do(kind: str) -> None:
    (pod, _) = plan_of(REVIEWS.replace("kind: Deployment", f"kind: {kind}")).pods

    assert pod.key == "default/reviews-v1-0"
    assert pod.owner == ObjectKey("apps", kind, "default", "reviews-v1")


BARE = """
apiVersion: v1
kind: Pod
metadata: {name: tool, labels: {app: tool}}
spec: {serviceAccountName: tool, containers: [{name: tool, image: bookinfo/tool}]}
"""


def test_a_bare_pod_runs_under_its_own_name() -> None:
    (pod,) = plan_of(BARE).pods

    assert (pod.key, pod.service_account, pod.labels, pod.owner) == ("default/tool", "tool", {"app": "tool"}, None)


def test_a_pod_with_an_owner_is_made_by_its_owner() -> None:
    owned = BARE.replace("labels:", "ownerReferences: [{kind: ReplicaSet, name: x}], labels:")

    assert plan_of(owned).pods == ()


def test_pods_of_one_name_are_said_and_the_first_run() -> None:
    mesh = plan_of(REVIEWS, REVIEWS.split("---")[1].replace("kind: Deployment", "kind: StatefulSet"), BARE)

    assert [pod.name for pod in mesh.pods] == ["reviews-v1-0", "reviews-v1-1", "tool"]
    (problem,) = mesh.problems
    assert problem.subject == "StatefulSet default/reviews-v1"
    assert "have the same names as those of Deployment default/reviews-v1" in problem.sentence
