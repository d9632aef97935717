import pytest

from policies.attributes import ClusterName, RequestHead, ResponseHead
from policies.authorizer import (
    ALL_NAMES,
    Allowed,
    Authorizer,
    Denied,
    Names,
    Worthless,
    denial,
    fit,
    read_http,
    removable,
)
from policies.rewrite import HeaderEdit

CLUSTER = ClusterName("outbound|80||auth")


def head(query: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> RequestHead:
    return RequestHead(b"GET", b"app", b"/", query, headers or [], bool(query))


@pytest.mark.parametrize(
    ("names", "accepted"),
    [
        (Names(), set()),
        (Names(exact=(b"x-a",)), {b"x-a"}),
        (Names(prefixes=(b"x-",)), {b"x-a", b"x-b"}),
        (Names(suffixes=(b"-b", b"-c")), {b"x-b", b"y-c"}),
        (ALL_NAMES, {b"x-a", b"x-b", b"y-c"}),
    ],
)
def test_names_are_exact_or_begin_or_end_like_this(names: Names, accepted: set[bytes]) -> None:
    assert {it for it in (b"x-a", b"x-b", b"y-c") if names.accepts(it)} == accepted


def test_a_question_is_a_copy_with_chosen_and_fixed_headers() -> None:
    authorizer = Authorizer("auth", CLUSTER, sent=Names(prefixes=(b"x-",)), added=((b"x-fixed", b"us"),))
    asked = head(headers=[(b"x-a", b"1"), (b"cookie", b"2"), (b"x-fixed", b"client")])

    question = authorizer.question(asked)

    assert question.head.headers == [(b"x-a", b"1"), (b"x-fixed", b"us")]
    assert len(asked.headers) == 3


def test_a_question_expects_nothing_and_upgrades_nothing() -> None:
    asked = head(headers=[(b"expect", b"100-continue")])
    asked.upgrade = b"websocket"

    question = Authorizer("auth", CLUSTER, sent=ALL_NAMES).question(asked)

    assert (question.head.headers, question.head.upgrade) == ([], b"")


@pytest.mark.parametrize(
    ("query", "allowed", "edited"),
    [
        (b"", Allowed(query_set=((b"a", b"1"),)), b"a=1"),
        (b"a=2&b=3", Allowed(query_set=((b"a", b"x&y"),)), b"b=3&a=x%26y"),
        (b"a=2&%61=3&b", Allowed(query_removed=(b"a",)), b"b"),
        (b"a+b=1", Allowed(query_removed=(b"a b",)), b""),
        (b"a=2&&b", Allowed(), b"a=2&&b"),
    ],
)
def test_query_parameters_are_set_and_removed_however_they_are_escaped(
    query: bytes, allowed: Allowed, edited: bytes
) -> None:
    asked = head(query)

    allowed.apply_to(asked)

    assert (asked.query, asked.has_query) == (edited, bool(edited))


def test_an_allowing_answer_over_http_says_what_it_may() -> None:
    authorizer = Authorizer(
        "auth", CLUSTER, to_upstream=Names(exact=(b"x-user",)), to_client=Names((b"set-cookie",), (b"x-seen",))
    )
    told = [
        (b"x-user", b"jason"),
        (b"x-other", b"1"),
        (b"set-cookie", b"a=b"),
        (b"x-seen", b"yes"),
        (b"x-envoy-auth-headers-to-remove", b"Authorization, host,:path"),
    ]

    answer = read_http(authorizer, ResponseHead(200, told), b"")

    assert answer == Allowed(
        HeaderEdit(set=((b"x-user", b"jason"),), remove=(b"authorization",)),
        HeaderEdit(set=((b"x-seen", b"yes"),), add=((b"set-cookie", b"a=b"),)),
    )


@pytest.mark.parametrize("status", [201, 204, 302, 401, 403, 429])
def test_everything_but_200_denies_over_http(status: int) -> None:
    answer = read_http(Authorizer("auth", CLUSTER), ResponseHead(status, [(b"x-why", b"a")]), b"no")

    assert answer == Denied(status, [(b"x-why", b"a")], b"" if status == 204 else b"no")


@pytest.mark.parametrize("status", [500, 503, 599])
def test_an_error_of_the_authorizer_is_no_answer(status: int) -> None:
    assert read_http(Authorizer("auth", CLUSTER), ResponseHead(status, []), b"") is None


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600, -1])
def test_a_denial_with_no_final_status_is_worthless(status: int) -> None:
    with pytest.raises(Worthless):
        denial(status, [], b"")


OF_OTHERS = """
Host :path :status Connection Content-Length Transfer-Encoding TE Trailer Upgrade Keep-Alive X-Forwarded-Client-Cert
X-Envoy-Peer-Metadata x-envoy-max-retries
"""


@pytest.mark.parametrize("name", OF_OTHERS.encode().split())
def test_nobody_else_says_where_a_message_goes_or_ends(name: bytes) -> None:
    assert fit([(name, b"5"), (b"X-User", b"jason")]) == [(b"x-user", b"jason")]
    assert removable([name.lower(), b"x-user"]) == (b"x-user",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"1\n"),
        (b"x-a", b"1\x00"),
        (b"x-a", b" 1"),
        (b"x-a\r\n", b"1"),
        (b"x a", b"1"),
        (b"x-a:", b"1"),
        (b":", b"1"),
        (b"", b"1"),
    ],
)
def test_what_can_be_no_field_makes_the_answer_worthless(name: bytes, value: bytes) -> None:
    with pytest.raises(Worthless):
        fit([(b"x-user", b"jason"), (name, value)])
