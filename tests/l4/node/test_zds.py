"""The messages between a node's agent and its ztunnel, in the bytes that Istio's programs write."""

import pytest

from l4.node import zds
from l4.node.zds import Add, Delete, Keep, ProtocolError, Request, SnapshotSent

WIRE = [
    (Add("u", "n", "s", "a"), b"\x0a\x0e\x0a\x01u\x12\x09\x0a\x01n\x12\x01s\x1a\x01a"),
    (Keep("u"), b"\x2a\x03\x0a\x01u"),
    (Delete("u"), b"\x12\x03\x12\x01u"),
    (SnapshotSent(), b"\x1a\x00"),
]


@pytest.mark.parametrize(("request_", "data"), WIRE)
def test_requests_have_istios_field_numbers(request_: Request, data: bytes) -> None:
    assert zds.encode_request(request_) == data
    assert zds.decode_request(data, [7] if isinstance(request_, Add) else []) == request_


def test_a_hello_and_an_acknowledgement_have_istios_field_numbers() -> None:
    assert zds.HELLO == b"\x08\x01"
    zds.check_hello(zds.HELLO)
    assert zds.encode_ack() == b"\x0a\x00"
    assert zds.encode_ack("no") == b"\x0a\x04\x0a\x02no"
    assert (zds.decode_ack(b"\x0a\x00"), zds.decode_ack(b"\x0a\x04\x0a\x02no")) == ("", "no")


@pytest.mark.parametrize(
    ("data", "fds", "why"),
    [
        (WIRE[0][1], [], "a request add carries 0 descriptors"),
        (WIRE[0][1], [7, 8], "a request add carries 2 descriptors"),
        (WIRE[1][1], [7], "a request keep carries 1 descriptors"),
        (WIRE[2][1], [7], "a request del carries 1 descriptors"),
        (WIRE[3][1], [7], "a request snapshot_sent carries 1 descriptors"),
        (b"\x0a\x03\x0a\x01u", [7], "has no workload_info"),
        (b"", [], "has no content"),
        (b"\xff", [], "is not a request"),
    ],
)
def test_a_request_that_breaks_the_protocol_is_refused(data: bytes, fds: list[int], why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        zds.decode_request(data, fds)


@pytest.mark.parametrize("data", [b"", b"\x08\x02", b"\xff"])
def test_another_hello_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        zds.check_hello(data)


@pytest.mark.parametrize("data", [b"", b"\xff"])
def test_another_answer_than_an_acknowledgement_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        zds.decode_ack(data)
