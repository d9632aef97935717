import pytest

from l4.config.manifest import parse
from l4.config.resources import Decoded, Decoder
from waypoint.mesh.manifests import KINDS, ContainerPort, PodSet, Service, ServicePort

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
        - {name: web, image: web, ports: [{name: http, containerPort: 80}], env: [{name: A, value: b}], tty: true}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{port: 80, targetPort: http}, {port: 81}]}
"""


def decode(text: str) -> Decoded:
    documents, problems = parse("mesh.yaml", text.encode())
    assert problems == []
    return Decoder(KINDS).decode(documents)


def test_a_deployment_is_one_replica_of_the_default_service_account_unless_it_says_more() -> None:
    (resource,) = decode(DEPLOYMENT).resources.of(PodSet)

    assert resource.value.spec.replicas == 1
    assert resource.value.spec.template.spec.service_account_name == "default"
    assert resource.value.spec.template.spec.containers[0].ports == (ContainerPort(80, "http"),)


def test_a_port_of_a_service_sends_to_its_target_or_to_the_same_number() -> None:
    (resource,) = decode(SERVICE).resources.of(Service)

    assert [port.target for port in resource.value.spec.ports] == ["http", 81]
    assert ServicePort(80, target_port=8080).target == 8080


def test_a_service_selects_pods_of_its_namespace_that_have_all_its_labels() -> None:
    (resource,) = decode(SERVICE).resources.of(Service)

    assert resource.value.selects("default", {"app": "web", "version": "v1"})
    assert not resource.value.selects("default", {"version": "v1"})
    assert not resource.value.selects("other", {"app": "web"})
    assert not Service(resource.value.metadata).selects("default", {"app": "web"})


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        (SERVICE.replace("10.0.0.1", "here"), "spec", "'here' does not appear to be an IPv4 or IPv6 address"),
        (
            DEPLOYMENT.replace("name: A", "name: A=B"),
            "spec.template.spec.containers[0].env[0]",
            "'A=B' is not a valid variable",
        ),
        (DEPLOYMENT.replace("containerPort: 80", "containerPort: 0"), "spec.template.spec.containers[0]", ">= 1"),
    ],
)
def test_what_could_not_be_run_is_a_problem_of_its_field(text: str, field: str, sentence: str) -> None:
    (problem,) = decode(text).problems

    assert problem.field.startswith(field)
    assert sentence in problem.sentence
