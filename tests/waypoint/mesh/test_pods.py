from pathlib import Path

from l4.config.documents import ObjectKey
from waypoint.mesh.addresses import Addresses
from waypoint.mesh.manifests import (
    Container,
    ContainerPort,
    Metadata,
    PodSet,
    PodSetSpec,
    PodSpec,
    PodTemplate,
    Service,
    ServicePort,
    ServiceSpec,
    TemplateMetadata,
    Variable,
)
from waypoint.mesh.pods import images_without_program, pod_keys, replicas
from waypoint.mesh.programs import Program

PROGRAMS = (Program("bookinfo/*", ("serve", "{address}:{port}"), Path("/src"), {"LEVEL": "info"}, Path("/")),)
KEY = ObjectKey("apps", "Deployment", "default", "reviews-v1")
RATINGS = (Service(Metadata("ratings"), ServiceSpec((ServicePort(9080),))), "127.96.0.5")


def deployment(*containers: Container, count: int = 1) -> PodSet:
    template = PodTemplate(PodSpec(containers, "bookinfo"), TemplateMetadata({"app": "reviews"}))
    return PodSet(Metadata("reviews-v1"), PodSetSpec(template, count))


def reviews(*env: Variable, name: str = "reviews") -> Container:
    return Container(name, "bookinfo/reviews:1", env, (ContainerPort(53, protocol="UDP"), ContainerPort(9080)))


def addresses(it: PodSet) -> Addresses:
    keys = pod_keys(it)
    return Addresses().including(services=(), taken=(), pods=keys, views=keys)


def test_each_replica_is_a_pod_with_an_address_and_a_view_of_its_own() -> None:
    it = deployment(reviews(), count=2)

    first, second = replicas(KEY, it, PROGRAMS, [RATINGS], addresses(it))

    assert (first.key, first.address, first.capture) == ("default/reviews-v1-0", "127.64.0.1", "127.128.0.0/16")
    assert (second.key, second.address, second.capture) == ("default/reviews-v1-1", "127.64.0.2", "127.129.0.0/16")
    assert str(first.identity) == "spiffe://cluster.local/ns/default/sa/bookinfo"
    assert first.labels == {"app": "reviews"}
    assert first.owner == KEY


def test_a_container_becomes_its_program_at_the_pods_address_and_first_tcp_port() -> None:
    it = deployment(reviews())

    (process,) = replicas(KEY, it, PROGRAMS, [RATINGS], addresses(it))[0].processes

    assert process.name == "default/reviews-v1-0"
    assert process.argv == ("serve", "127.64.0.1:9080")
    assert process.directory == Path("/src")
    assert process.port == 9080


def test_the_environment_holds_services_image_manifest_and_pod_in_rising_precedence() -> None:
    variables = (Variable("RATINGS_SERVICE_PORT", "1"), Variable("LEVEL", "debug"), Variable("BIND_ADDRESS", "0.0.0.0"))
    it = deployment(reviews(*variables))

    (process,) = replicas(KEY, it, PROGRAMS, [RATINGS], addresses(it))[0].processes

    assert process.environment["RATINGS_HOSTNAME"] == "127.128.0.5"
    assert process.environment["RATINGS_SERVICE_PORT"] == "1"
    assert process.environment["LEVEL"] == "debug"
    assert process.environment["BIND_ADDRESS"] == process.environment["POD_IP"] == "127.64.0.1"


def test_containers_of_one_pod_are_told_apart_by_name() -> None:
    it = deployment(reviews(), reviews(name="helper"))

    (pod,) = replicas(KEY, it, PROGRAMS, [], addresses(it))

    assert [process.name for process in pod.processes] == [
        "default/reviews-v1-0/reviews",
        "default/reviews-v1-0/helper",
    ]


def test_a_new_service_makes_no_other_process_but_a_new_variable_does() -> None:
    it = deployment(reviews())
    (before,) = replicas(KEY, it, PROGRAMS, [], addresses(it))

    (with_service,) = replicas(KEY, it, PROGRAMS, [RATINGS], addresses(it))
    (with_variable,) = replicas(KEY, deployment(reviews(Variable("A", "b"))), PROGRAMS, [], addresses(it))

    assert with_service.processes == before.processes
    assert with_variable.processes != before.processes


def test_an_image_that_no_program_stands_for_is_named() -> None:
    foreign = Container("web", "nginx:1")

    assert images_without_program(deployment(reviews(), foreign), PROGRAMS) == ["nginx:1"]
