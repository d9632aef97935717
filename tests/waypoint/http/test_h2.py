"""Heads that a peer sends again are made canonical and checked once, which must make no difference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4.http2.events import Memo, RequestReceived, ResponseReceived, TrailersReceived
from policies.attributes import Headers, RepeatedHeaders, RequestHead, ResponseHead
from policies.last_look import Unwritable
from waypoint.http.events import EMPTY, STREAMED
from waypoint.http.h2 import (
    format_request,
    format_response,
    received_request,
    received_response,
    received_trailers,
    request_head,
    response_head,
)
from waypoint.http.settings import HttpSettings
from waypoint.http.trailers import response_trailers

SETTINGS = HttpSettings()
LINE: Headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"app"), (b":path", b"/a?b")]
REQUESTS: dict[str, Headers] = {
    "ordinary": [*LINE, (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"te", b"trailers")],
    "with a length": [*LINE, (b"content-length", b"0")],
    "with overrides": [*LINE, (b"x-envoy-max-retries", b"3")],
    "an upgrade": [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *LINE[1:]],
}
ASKED = [
    RequestHead(b"GET", b"app", b"/", b"", []),
    RequestHead(b"HEAD", b"app", b"/", b"", []),
    RequestHead(b"GET", b"app", b"/", b"", [], upgrade=b"websocket"),
]
MARK = (b"x-mark", b"1")
"""As exchanges add headers to the heads that they get."""


@pytest.mark.parametrize("headers", REQUESTS.values(), ids=REQUESTS)
@given(each_time=st.lists(st.booleans(), max_size=6))
def test_a_request_that_comes_again_is_the_same(headers: Headers, each_time: list[bool]) -> None:
    memo = Memo()
    for end_stream in each_time:
        found = received_request(RequestReceived(1, headers, end_stream, memo), SETTINGS)

        assert found == request_head(headers, end_stream, SETTINGS)
        found[0].headers.append(MARK)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(ASKED)), max_size=6), st.sampled_from([b"200", b"304"]))
def test_a_response_that_comes_again_is_the_same(each_time: list[tuple[bool, RequestHead]], status: bytes) -> None:
    headers: Headers = [(b":status", status), (b"content-type", b"text/plain"), (b"content-length", b"5")]
    memo = Memo()
    for end_stream, request in each_time:
        found = received_response(ResponseReceived(1, headers, end_stream, memo), request)

        assert found == response_head(headers, end_stream, request)
        found[0].headers.append(MARK)


def test_trailers_that_come_again_are_the_same() -> None:
    fields: Headers = [(b"grpc-status", b"0"), (b"content-length", b"5")]
    memo = Memo()
    for _ in range(3):
        found = received_trailers(TrailersReceived(1, fields, memo))

        assert found == response_trailers(fields) == [(b"grpc-status", b"0")]
        found.append(MARK)


def test_what_was_added_to_repeated_headers_is_checked() -> None:
    kept = RepeatedHeaders([(b"a", b"1")])
    format_request(RequestHead(b"GET", b"app", b"/", b"", [(b"a", b"1")], repeated=kept), STREAMED)

    with pytest.raises(Unwritable):
        format_request(RequestHead(b"GET", b"app", b"/", b"", [(b"a", b"1"), (b"b", b"\n")], repeated=kept), STREAMED)
    with pytest.raises(Unwritable):
        format_request(RequestHead(b"GET", b"app", b"/", b"", [(b"a", b"\n")], repeated=kept), STREAMED)


def test_repeated_headers_are_checked_anew_for_a_body_that_allows_less() -> None:
    headers = [(b"content-length", b"5")]
    kept = RepeatedHeaders(headers)
    assert (b"content-length", b"5") in format_response(ResponseHead(304, list(headers), kept), EMPTY)

    with pytest.raises(Unwritable):
        format_response(ResponseHead(200, list(headers), kept), STREAMED)
