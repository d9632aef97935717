import pytest

from l4.discovery.objects import ServicePortSpec
from l4.discovery.ports import app_protocol
from l4.discovery.workload import AppProtocol


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("http", AppProtocol.HTTP),
        ("http-web", AppProtocol.HTTP),
        ("HTTP-Web", AppProtocol.HTTP),
        ("httpweb", AppProtocol.UNKNOWN),
        ("http2-x", AppProtocol.HTTP2),
        ("grpc", AppProtocol.GRPC),
        ("grpc-x", AppProtocol.GRPC),
        ("grpc-web", AppProtocol.GRPC_WEB),
        ("grpc-web-x", AppProtocol.GRPC_WEB),
        ("grpc-webx", AppProtocol.GRPC),
        ("https", AppProtocol.TLS),
        ("mysql", AppProtocol.TCP),
        ("", AppProtocol.UNKNOWN),
    ],
)
def test_a_name_declares_a_protocol_alone_or_before_a_dash(name: str, protocol: AppProtocol) -> None:
    assert app_protocol(ServicePortSpec(80, name)) is protocol


@pytest.mark.parametrize(
    ("declared", "protocol"),
    [
        ("http", AppProtocol.HTTP),
        ("kubernetes.io/h2c", AppProtocol.HTTP2),
        ("kubernetes.io/ws", AppProtocol.HTTP),
        ("GRPC", AppProtocol.GRPC),
        ("example.com/mine", AppProtocol.UNKNOWN),
        ("", AppProtocol.UNKNOWN),
    ],
)
def test_app_protocol_counts_before_the_name_even_if_it_is_unknown(declared: str, protocol: AppProtocol) -> None:
    assert app_protocol(ServicePortSpec(80, "tcp-x", app_protocol=declared)) is protocol
