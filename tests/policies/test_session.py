"""Tokens of sessions: what they say, when they end, and what a forged one is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import ClusterName, Header, Headers, RequestHead
from policies.balancing.endpoint import Endpoint
from policies.session import SessionPersistence, Token, cluster_mark, endpoint_mark, generated_name

NOW = 1_700_000_000.5
SECOND = int(NOW)
CLUSTER = ClusterName("inbound-vip|9080|http|app")
MARKS = (b"aaaaaa", b"bbbbbbbbbbbbbbbb")
TOKEN = b"".join(MARKS)
COOKIE = SessionPersistence(b"stay")
HEADER = SessionPersistence(b"x-stay", is_cookie=False)


def head(*headers: Header) -> RequestHead:
    return RequestHead(b"GET", b"app", b"/", b"", list(headers))


def timed(began: int) -> bytes:
    return b"%b.%x" % (TOKEN, began)


@pytest.mark.parametrize(
    ("policy", "headers", "found"),
    [
        (COOKIE, [(b"cookie", b"stay=" + TOKEN)], 1),
        (COOKIE, [(b"cookie", b"a=b; stay=%b; c" % TOKEN)], 1),
        (COOKIE, [(b"cookie", b"a=b"), (b"cookie", b'stay="%b"' % TOKEN)], 1),
        (COOKIE, [(b"cookie", b"stay=%b; stay=%b" % (TOKEN, TOKEN))], 2),
        (COOKIE, [(b"cookie", b"; ".join([b"stay=" + TOKEN] * 100))], 4),
        (COOKIE, [(b"cookie", b"Stay=" + TOKEN)], 0),
        (COOKIE, [(b"cookie", b"stay=" + TOKEN.upper())], 0),
        (COOKIE, [(b"cookie", b"stay=10.0.0.1:9080")], 0),
        (COOKIE, [(b"stay", TOKEN)], 0),
        (COOKIE, [], 0),
        (HEADER, [(b"x-stay", TOKEN)], 1),
        (HEADER, [(b"x-stay", TOKEN + b"\n")], 0),
        (HEADER, [(b"cookie", b"x-stay=" + TOKEN)], 0),
    ],
)
def test_a_token_is_found_where_the_policy_puts_it(policy: SessionPersistence, headers: Headers, found: int) -> None:
    assert policy.find(head(*headers), NOW) == (Token(*MARKS),) * found


@pytest.mark.parametrize(
    ("value", "is_alive"),
    [
        (timed(SECOND), True),
        (timed(SECOND - 99), True),
        (timed(SECOND - 100), False),
        (timed(SECOND - 99) + b".1", True),
        (TOKEN, False),
    ],
)
def test_a_session_ends_when_it_is_old(value: bytes, is_alive: bool) -> None:
    policy = SessionPersistence(b"stay", absolute_seconds=100)

    assert bool(policy.find(head((b"cookie", b"stay=" + value)), NOW)) == is_alive


@pytest.mark.parametrize(
    ("policy", "is_secure", "expected"),
    [
        (HEADER, False, (b"x-stay", TOKEN)),
        (COOKIE, False, (b"set-cookie", b"stay=%b; Path=/; HttpOnly; SameSite=Strict" % TOKEN)),
        (COOKIE, True, (b"set-cookie", b"stay=%b; Path=/; HttpOnly; SameSite=Strict; Secure" % TOKEN)),
        (
            SessionPersistence(b"stay", path=b"", absolute_seconds=60),
            False,
            (b"set-cookie", b"stay=%b; HttpOnly; SameSite=Strict" % timed(SECOND)),
        ),
        (
            SessionPersistence(b"stay", path=b"/a", absolute_seconds=60, is_permanent=True),
            False,
            (b"set-cookie", b"stay=%b; Path=/a; Max-Age=60; HttpOnly; SameSite=Strict" % timed(SECOND)),
        ),
    ],
)
def test_a_new_session_is_told_to_the_client(policy: SessionPersistence, is_secure: bool, expected: Header) -> None:
    assert policy.header(None, MARKS, SECOND, is_secure=is_secure) == expected


def test_a_client_that_knows_is_told_nothing() -> None:
    assert COOKIE.header(Token(*MARKS), MARKS, NOW, is_secure=False) is None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": b""}, "is not a valid cookie or header name"),
        ({"name": b"a b"}, "is not a valid cookie or header name"),
        ({"name": b"a=b"}, "is not a valid cookie or header name"),
        ({"name": b"a" * 129}, "is not a valid cookie or header name"),
        ({"name": b"a", "path": b"/;Domain=x"}, "is not a valid cookie path"),
        ({"name": b"a", "is_permanent": True}, "absoluteTimeout"),
    ],
)
def test_what_would_make_no_cookie_is_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SessionPersistence(**fields)  # type: ignore[arg-type]


def test_a_mark_shows_no_address_and_means_something_under_one_rule_only() -> None:
    endpoint, other = Endpoint("10.0.0.1", 9080, None), Endpoint("10.0.0.2", 9080, None)
    mark = endpoint_mark("rule a", CLUSTER, endpoint)

    assert b"10.0" not in mark
    assert len({mark, endpoint_mark("rule a", CLUSTER, other), endpoint_mark("rule b", CLUSTER, endpoint)}) == 3
    assert endpoint_mark("rule a", ClusterName("another"), endpoint) != mark
    assert cluster_mark("rule a", CLUSTER) != cluster_mark("rule b", CLUSTER)


def test_a_generated_name_is_the_same_every_time_and_fits_a_header() -> None:
    name = generated_name("HTTPRoute default/app rules[0]")

    assert name == generated_name("HTTPRoute default/app rules[0]") == name.lower()
    assert name != generated_name("HTTPRoute default/app rules[1]")
    SessionPersistence(name)


@given(st.binary(max_size=80), st.floats(0, 2e9))
def test_nothing_a_client_sends_breaks_anything(value: bytes, now: float) -> None:
    for policy in (COOKIE, SessionPersistence(b"stay", absolute_seconds=1)):
        for token in policy.find(head((b"cookie", b"stay=" + value), (b"cookie", value)), now):
            assert value.find(token.cluster + token.endpoint) >= 0


@given(st.integers(0, 2**32 - 1), st.integers(0, 10_000))
def test_what_is_set_is_found_again_until_it_has_expired(began: int, passed: int) -> None:
    policy = SessionPersistence(b"x-stay", is_cookie=False, absolute_seconds=5000)
    header = policy.header(None, MARKS, began, is_secure=False)

    assert header is not None
    assert bool(policy.find(head(header), began + passed)) == (passed < 5000)
