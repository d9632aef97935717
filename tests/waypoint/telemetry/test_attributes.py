from dataclasses import replace

import pytest

from tests.waypoint.telemetry.test_exchanges import ANSWERED, PRODUCTPAGE
from waypoint.telemetry.attributes import ATTRIBUTES, request_headers

RECORD = replace(
    ANSWERED, headers=[(b"x-a", b"1"), (b"referer", b"http://a"), (b"x-a", b"2")], response_headers=[(b"x-b", b"3")]
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request.host", "reviews:9080"),
        ("request.path", "/reviews/0?x=1"),
        ("request.url_path", "/reviews/0"),
        ("request.query", "x=1"),
        ("request.referer", "http://a"),
        ("request.scheme", None),
        ("response.code", 200),
        ("response.grpc_status", None),
        ("connection.mtls", True),
        ("connection.uri_san_peer_certificate", str(PRODUCTPAGE)),
        ("source.workload", "productpage-v1"),
        ("source.workload.namespace", "default"),
        ("filter_state.downstream_peer.app", "productpage"),
        ("destination.workload.name", "reviews-v1"),
        ("upstream_peer.principal", "spiffe://cluster.local/ns/default/sa/reviews"),
        ("destination.port", 9080),
        ("upstream.port", 9080),
        ("xds.route_name", "default"),
    ],
)
def test_attributes_have_envoys_names_and_types(name: str, value: object) -> None:
    assert ATTRIBUTES[name](RECORD) == value


def test_headers_are_a_mapping_without_regard_to_case() -> None:
    headers = request_headers(RECORD)

    assert headers["X-A"] == "1,2"
    assert headers[":path"] == "/reviews/0?x=1"
    assert "x-none" not in headers
    assert dict(headers)["x-a"] == "1,2"
    assert len(headers) == 5


def test_every_attribute_can_be_read_of_every_record() -> None:
    empty = replace(RECORD, endpoint=None, authority=None, method=b"", original_target=b"", headers=())

    for read in ATTRIBUTES.values():
        read(RECORD)
        read(empty)
