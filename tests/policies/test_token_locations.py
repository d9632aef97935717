import pytest

from policies.attributes import Headers, RequestHead
from policies.token_locations import CookieLocation, HeaderLocation, ParamLocation

BEARER = HeaderLocation(b"authorization", b"Bearer ")


def head_of(*headers: tuple[bytes, bytes], query: bytes = b"") -> RequestHead:
    return RequestHead(b"GET", b"reviews", b"/", query, list(headers), has_query=bool(query))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"Bearer a.b-c_d", b"a.b-c_d"),
        (b"Basic x, Bearer a.b", b"a.b"),
        (b"Bearer  a.b trailing", b"a.b"),
        (b"bearer a.b", None),
        (b"", None),
    ],
)
def test_a_headers_token_is_the_first_run_of_its_characters_after_the_prefix(value: bytes, found: bytes | None) -> None:
    assert BEARER.find(head_of((b"authorization", value))) == found


def test_a_header_that_is_repeated_is_searched_until_a_token_is_found() -> None:
    headers = ((b"authorization", b"Basic x"), (b"authorization", b"Bearer a.b"))

    assert BEARER.find(head_of(*headers)) == b"a.b"


def test_a_removed_header_leaves_no_repetition_behind() -> None:
    head = head_of((b"authorization", b"Bearer a"), (b"accept", b"*/*"), (b"authorization", b"Basic b"))

    BEARER.remove(head)

    assert head.headers == [(b"accept", b"*/*")]


def test_a_parameter_is_found_and_removed_however_its_name_is_escaped() -> None:
    param, head = ParamLocation(b"access_token"), head_of(query=b"a=1&access%5Ftoken=x%2Ey&b=2")

    found = param.find(head)
    param.remove(head)

    assert found == b"x.y"
    assert (head.query, head.has_query) == (b"a=1&b=2", True)


def test_without_its_only_parameter_a_request_has_no_query() -> None:
    head = head_of(query=b"access_token=x")

    ParamLocation(b"access_token").remove(head)

    assert head.target == b"/"


def test_a_parameters_value_can_be_concealed_for_logs() -> None:
    concealed = ParamLocation(b"access_token").concealed(b"a=1&access_token=secret&access_token=other")

    assert concealed == b"a=1&access_token=(redacted)&access_token=(redacted)"


@pytest.mark.parametrize(
    ("headers", "found", "kept"),
    [
        ([(b"cookie", b"a=1; token=x")], b"x", [(b"cookie", b"a=1")]),
        ([(b"cookie", b'token="x"')], b"x", []),
        ([(b"cookie", b"a=1"), (b"cookie", b"token=x;b=2")], b"x", [(b"cookie", b"a=1"), (b"cookie", b"b=2")]),
        ([(b"cookie", b"mytoken=x")], None, [(b"cookie", b"mytoken=x")]),
    ],
)
def test_a_cookie_is_found_and_removed_alone(headers: Headers, found: bytes | None, kept: Headers) -> None:
    cookie, head = CookieLocation(b"token"), head_of(*headers)

    assert cookie.find(head) == found
    cookie.remove(head)

    assert head.headers == kept
