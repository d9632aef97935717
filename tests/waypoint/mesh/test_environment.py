import pytest

from waypoint.mesh.environment import (
    container_variables,
    needs_cluster,
    pod_variables,
    resolve,
    service_names,
    service_variables,
)
from waypoint.mesh.manifests import FieldRef, Metadata, Service, ServicePort, ServiceSpec, ValueFrom, Variable

RATINGS = Service(Metadata("ratings-db"), ServiceSpec((ServicePort(9080, "http"), ServicePort(9090, "http-metrics"))))
FOREIGN = Service(Metadata("mail", "office"), ServiceSpec((ServicePort(25),)))
SERVICES = [(RATINGS, "127.128.0.1"), (FOREIGN, "127.128.0.2")]


def test_services_of_the_namespace_are_named_as_the_kubelet_names_them() -> None:
    variables = service_variables(SERVICES, "default")

    assert variables == {
        "RATINGS_DB_HOSTNAME": "127.128.0.1",
        "RATINGS_DB_SERVICE_HOST": "127.128.0.1",
        "RATINGS_DB_SERVICE_PORT": "9080",
        "RATINGS_DB_SERVICE_PORT_HTTP": "9080",
        "RATINGS_DB_SERVICE_PORT_HTTP_METRICS": "9090",
    }


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("ratings-db", "127.128.0.1"),
        ("ratings-db.default", "127.128.0.1"),
        ("ratings-db.default.svc.cluster.local", "127.128.0.1"),
        ("ratings-db:9080", "127.128.0.1:9080"),
        ("http://ratings-db:9080/ratings", "http://127.128.0.1:9080/ratings"),
        ("mysql://user:word@ratings-db/books", "mysql://user:word@127.128.0.1/books"),
        ("ratings-db:1,mail.office:2", "127.128.0.1:1,127.128.0.2:2"),
        ("http://mail.office.svc/", "http://127.128.0.2/"),
        ("http://example.org/ratings-db", "http://example.org/ratings-db"),
        ("mail", "mail"),
        ("ratings-db is down", "ratings-db is down"),
        ("ratings-db/latest", "ratings-db/latest"),
        ("", ""),
    ],
)
def test_a_services_name_becomes_its_address_where_it_is_a_host(value: str, resolved: str) -> None:
    assert resolve(Variable("RATINGS_HOST", value), service_names(SERVICES, "default")) == resolved


@pytest.mark.parametrize(
    ("name", "is_host"),
    [
        ("RATINGS_HOST", True),
        ("ratings.hostname", True),
        ("RATINGS_SERVICE_ADDR", True),
        ("KAFKA_BROKERS", True),
        ("UPSTREAM_ADDRESSES", True),
        ("SERVER1", True),
        ("DB_NAME", False),
        ("DB_USER", False),
        ("HOST_NAME_PREFIX", False),
        ("GHOST", False),
        ("MODE", False),
    ],
)
def test_a_value_that_only_equals_a_services_name_is_left_alone(name: str, is_host: bool) -> None:
    value = resolve(Variable(name, "ratings-db"), service_names(SERVICES, "default"))

    assert value == ("127.128.0.1" if is_host else "ratings-db")


@pytest.mark.parametrize(
    "value", ["ratings-db:9080", "http://ratings-db/", "ratings-db.default", "x,ratings-db.default"]
)
def test_what_can_only_be_a_host_is_resolved_whatever_the_variables_name(value: str) -> None:
    assert "127.128.0.1" in resolve(Variable("SETTING", value), service_names(SERVICES, "default"))


def test_a_containers_variables_may_name_fields_of_the_pod() -> None:
    about = pod_variables("default", "reviews-0", "bookinfo-reviews", "127.64.0.7")
    variables = (
        Variable("WHERE", value_from=ValueFrom(FieldRef("status.podIP"))),
        Variable("WHO", value_from=ValueFrom(FieldRef("spec.serviceAccountName"))),
        Variable("RATINGS", "http://ratings-db"),
    )

    values = container_variables(variables, about, service_names(SERVICES, "default"))

    assert values == {"WHERE": "127.64.0.7", "WHO": "bookinfo-reviews", "RATINGS": "http://127.128.0.1"}


def test_a_variable_from_a_secret_is_left_out() -> None:
    secret = Variable("PASSWORD", value_from=ValueFrom())

    values = container_variables((secret,), {}, {})

    assert needs_cluster(secret)
    assert values == {}
