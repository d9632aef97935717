from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4.telemetry.propagation import (
    NO_BAGGAGE,
    Baggage,
    Forwarded,
    format_baggage,
    format_forwarded,
    parse_baggage,
    parse_forwarded,
)


@dataclass(frozen=True)
class _Workload:
    cluster_id: str = "Kubernetes"
    namespace: str = "default"
    workload_name: str = "reviews-v1"
    workload_type: str = "deployment"
    canonical_name: str = "reviews"
    canonical_revision: str = "v1"


def test_baggage_of_a_workload_is_what_a_ztunnel_would_send() -> None:
    wire = format_baggage(_Workload())

    assert wire == (
        b"k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=reviews-v1,"
        b"service.name=reviews,service.version=v1"
    )
    assert parse_baggage(wire) == Baggage("Kubernetes", "default", "reviews-v1", "deployment", "reviews", "v1")


def test_baggage_omits_what_is_unknown() -> None:
    wire = format_baggage(_Workload(cluster_id="", canonical_name="", canonical_revision=""))

    assert wire == b"k8s.namespace.name=default,k8s.deployment.name=reviews-v1"


def test_of_baggage_keys_that_come_twice_the_last_counts() -> None:
    assert parse_baggage(b"service.name=a, service.name = b ;p=1,k8s.pod.name=p,unknown=x,,=") == Baggage(
        canonical_service="b", workload="p", workload_type="pod"
    )


def test_an_empty_baggage_value_says_nothing() -> None:
    assert parse_baggage(b"service.name=a,service.name=") == NO_BAGGAGE


@pytest.mark.parametrize(
    "wire",
    [
        b"service.name=" + b"a" * 254,
        b"service.name=a\x00b",
        b"service.name=a b",
        b"service.name=\xc3\xa4",
        b"service.name=a," * 65,
        b"service.name=a,x=" + b"y" * 8192,
    ],
)
def test_baggage_that_cannot_describe_a_workload_is_ignored(wire: bytes) -> None:
    assert parse_baggage(wire) == NO_BAGGAGE


@given(st.binary(max_size=200))
def test_no_bytes_make_a_parser_fail(wire: bytes) -> None:
    parse_baggage(wire)
    parse_forwarded(wire)


def test_forwarded_names_the_caller_and_the_service_it_asked_for() -> None:
    wire = format_forwarded("10.0.0.1", 80, "reviews.default.svc.cluster.local")

    assert wire == b'for="10.0.0.1:80";host=reviews.default.svc.cluster.local'
    assert parse_forwarded(wire) == Forwarded("10.0.0.1:80", "reviews.default.svc.cluster.local")


def test_forwarded_writes_ipv6_in_brackets_and_leaves_an_unknown_host_out() -> None:
    wire = format_forwarded("::1", 80)

    assert wire == b'for="[::1]:80"'
    assert parse_forwarded(wire) == Forwarded("[::1]:80", "")


@pytest.mark.parametrize(
    ("wire", "host"),
    [(b'host="a.b"', "a.b"), (b"host=", ""), (b"Host=a", ""), (b"for=x;host=a;proto=http", "a"), (b"host=\xff", "")],
)
def test_forwarded_host_is_read_as_a_ztunnel_reads_it(wire: bytes, host: str) -> None:
    assert parse_forwarded(wire).host == host
