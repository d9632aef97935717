"""Headers that a peer repeats are formatted once, which must make no difference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Headers, RepeatedHeaders, RequestHead, ResponseHead
from policies.last_look import Unwritable
from waypoint.http.events import EMPTY, Body
from waypoint.http.h1_format import format_request, format_response

_HEADERS = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"", b"1", b"two"])), max_size=4)


@given(_HEADERS, st.lists(_HEADERS, max_size=4))
def test_whatever_becomes_of_repeated_headers_is_written(repeated: Headers, each_time: list[Headers]) -> None:
    kept = RepeatedHeaders(repeated)
    for headers in [*each_time, repeated, *([*repeated, *more] for more in each_time)]:
        request = RequestHead(b"GET", b"app", b"/", b"", list(headers))
        same = RequestHead(b"GET", b"app", b"/", b"", list(headers), repeated=kept)
        assert format_request(same, EMPTY) == format_request(request, EMPTY)


@pytest.mark.parametrize("added", [(b"b", b"1\r\nx: y"), (b"b", b"\0"), (b"b c", b"1"), (b"content-length", b"1")])
def test_what_was_added_to_repeated_headers_is_checked(added: tuple[bytes, bytes]) -> None:
    kept = RepeatedHeaders([(b"a", b"1")])
    format_request(RequestHead(b"GET", b"app", b"/", b"", [(b"a", b"1")], repeated=kept), EMPTY)

    with pytest.raises(Unwritable):
        format_request(RequestHead(b"GET", b"app", b"/", b"", [(b"a", b"1"), added], repeated=kept), EMPTY)


def test_repeated_headers_are_checked_anew_for_a_body_that_allows_less() -> None:
    headers = [(b"content-length", b"5")]
    kept = RepeatedHeaders(headers)
    assert b"content-length: 5" in format_response(ResponseHead(304, list(headers), kept), EMPTY, False)

    with pytest.raises(Unwritable):
        format_response(ResponseHead(200, list(headers), kept), Body(5), False)
