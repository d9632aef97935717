"""Malformed heads, case by case; test_engines and tests/wire show that engines refuse them."""

import pytest

from l4.http2.heads import (
    HeadTooLarge,
    MalformedHead,
    check_request,
    check_response,
    check_size,
    check_trailers,
)
from policies.attributes import Headers

GET: Headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"reviews")]
TUNNEL: Headers = [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80")]
WEBSOCKET: Headers = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"reviews"),
]


def replaced(headers: Headers, name: bytes, value: bytes | None) -> Headers:
    """The same head with another value of a field, or without it."""
    return [(key, value if key == name else old) for key, old in headers if key != name or value is not None]  # type: ignore[misc]


@pytest.mark.parametrize(
    "headers",
    [
        GET,
        TUNNEL,
        [*GET, (b"te", b"trailers")],
        [*GET, (b"host", b"reviews")],
        [*GET, (b"x", b"")],
        [*GET, (b"x", b"a\tb c")],
        replaced(GET, b":authority", None),
        [(b":method", b"OPTIONS"), (b":scheme", b"http"), (b":path", b"*"), (b":authority", b"reviews")],
    ],
)
def test_a_request_in_order_is_accepted(headers: Headers) -> None:
    assert check_request(headers, allow_connect_protocol=False) is None


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(replaced(GET, b":method", None), id="no method"),
        pytest.param(replaced(GET, b":method", b"GE T"), id="a blank in the method"),
        pytest.param(replaced(GET, b":scheme", b"ftp"), id="another scheme"),
        pytest.param(replaced(GET, b":path", b""), id="an empty path"),
        pytest.param(replaced(GET, b":path", b"*"), id="an asterisk without OPTIONS"),
        pytest.param(replaced(GET, b":path", b"/a b"), id="a blank in the path"),
        pytest.param(replaced(GET, b":authority", b"user@reviews"), id="user information"),
        pytest.param([*GET, (b":path", b"/b")], id="two paths"),
        pytest.param([*GET, (b"a", b"b"), (b":protocol", b"x")], id="a pseudo header after a field"),
        pytest.param([*GET, (b":status", b"200")], id="a pseudo header of responses"),
        pytest.param([*GET, (b"Upper", b"x")], id="an upper-case name"),
        pytest.param([*GET, (b"a b", b"x")], id="a blank in a name"),
        pytest.param([*GET, (b"", b"x")], id="an empty name"),
        pytest.param([*GET, (b"a", b"x\r\ny: z")], id="a line break in a value"),
        pytest.param([*GET, (b"a", b"x\0")], id="a null byte in a value"),
        pytest.param([*GET, (b"a", b" x")], id="a blank before a value"),
        pytest.param([*GET, (b"a", b"x\t")], id="a tab after a value"),
        pytest.param([*GET, (b"connection", b"close")], id="a field of HTTP/1.1 connections"),
        pytest.param([*GET, (b"transfer-encoding", b"chunked")], id="transfer-encoding"),
        pytest.param([*GET, (b"te", b"gzip")], id="te with anything but trailers"),
        pytest.param([*GET, (b"host", b"ratings")], id="another host"),
        pytest.param([*GET, (b"host", b"reviews"), (b"host", b"reviews")], id="two hosts"),
        pytest.param([*GET, (b"content-length", b"1"), (b"content-length", b"1")], id="two lengths"),
        pytest.param([*GET, (b"content-length", b"+1")], id="a length with a sign"),
        pytest.param([*GET, (b"content-length", b"1" * 19)], id="a length beyond 64 bits"),
        pytest.param(replaced(TUNNEL, b":authority", None), id="CONNECT to nowhere"),
        pytest.param([*TUNNEL, (b":path", b"/")], id="CONNECT with a path"),
        pytest.param(WEBSOCKET, id="extended CONNECT that is not enabled"),
        pytest.param([*GET, (b":protocol", b"websocket")], id="a protocol without CONNECT"),
    ],
)
def test_a_malformed_request_is_refused(headers: Headers) -> None:
    with pytest.raises(MalformedHead):
        check_request(headers, allow_connect_protocol=False)


def test_extended_connect_is_accepted_where_it_is_enabled() -> None:
    assert check_request(WEBSOCKET, allow_connect_protocol=True) is None


def test_the_declared_length_is_returned() -> None:
    assert check_request([*GET, (b"content-length", b"12")], allow_connect_protocol=False) == 12
    assert check_response([(b":status", b"200"), (b"content-length", b"0")]) == (200, 0)


@pytest.mark.parametrize("status", [b"", b"99", b"099", b"2000", b"2x0", b"101"])
def test_a_response_needs_a_status_of_http2(status: bytes) -> None:
    with pytest.raises(MalformedHead):
        check_response([(b":status", status)])


def test_trailers_have_no_pseudo_headers() -> None:
    check_trailers([(b"grpc-status", b"0")])

    with pytest.raises(MalformedHead):
        check_trailers([(b":status", b"200")])


def test_the_size_is_counted_as_hpack_does_and_the_fields_without_pseudo_headers() -> None:
    size = sum(len(name) + len(value) + 32 for name, value in GET)

    check_size(GET, size, 0)
    with pytest.raises(HeadTooLarge) as by_bytes:
        check_size(GET, size - 1, 0)
    with pytest.raises(HeadTooLarge) as by_fields:
        check_size([*GET, (b"a", b"b")], 1000, 0)

    assert (by_bytes.value.reason, by_fields.value.reason) == ("max_header_list_size", "max_header_fields")
