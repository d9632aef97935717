import pytest

from policies.attributes import Headers, RequestHead
from policies.cors import Cors, OriginPattern

PAGE = b"https://shop.example.com"


def cors(
    *origins: bytes,
    methods: tuple[bytes, ...] = (),
    headers: tuple[bytes, ...] = (),
    expose: tuple[bytes, ...] = (),
    max_age_seconds: int = 5,
    has_credentials: bool = False,
) -> Cors:
    patterns = tuple(OriginPattern(origin) for origin in origins or (PAGE,))
    return Cors(patterns, methods, headers, expose, max_age_seconds, has_credentials)


def head(method: bytes = b"GET", **headers: bytes) -> RequestHead:
    fields = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return RequestHead(method, b"reviews:9080", b"/", b"", fields)


def preflight(policy: Cors, **headers: bytes) -> dict[bytes, bytes]:
    asked = head(b"OPTIONS", origin=PAGE, access_control_request_method=b"PUT", **headers)
    answer = policy.preflight(asked, PAGE)
    assert answer is not None
    return dict(answer)


@pytest.mark.parametrize(
    ("pattern", "origin", "is_accepted"),
    [
        (b"https://shop.example.com", b"https://shop.example.com", True),
        (b"https://shop.example.com", b"https://SHOP.example.com", True),
        (b"https://shop.example.com", b"http://shop.example.com", False),
        (b"https://shop.example.com", b"https://shop.example.com:8443", False),
        (b"https://shop.example.com", b"https://shop.example.com.evil.org", False),
        (b"https://*.example.com", b"https://shop.example.com", True),
        (b"https://*.example.com", b"https://a.b.example.com", True),
        (b"https://*.example.com", b"https://example.com", False),
        (b"https://*.example.com", b"https://.example.com", False),
        (b"https://*.example.com", b"https://evil.org/.example.com", False),
        (b"https://*.example.com", b"https://evil.org:1.example.com", False),
        (b"https://*.example.com", b"https://shop.example.com.evil.org", False),
        (b"https://*.example.com:8443", b"https://shop.example.com:8443", True),
        (b"*", b"null", True),
        (b"https://shop.example.com", b"null", False),
    ],
)
def test_which_origins_a_pattern_accepts(pattern: bytes, origin: bytes, is_accepted: bool) -> None:
    assert OriginPattern(pattern).accepts(origin) is is_accepted


def test_the_origin_that_may_read_is_named() -> None:
    assert cors().origin_of(head(origin=PAGE)) == PAGE
    assert cors().origin_of(head(origin=b"https://evil.org")) is None
    assert cors().origin_of(head()) is None


def test_only_options_with_the_method_that_will_follow_is_a_preflight() -> None:
    assert cors().preflight(head(b"OPTIONS", origin=PAGE), PAGE) is None
    assert cors().preflight(head(b"GET", origin=PAGE, access_control_request_method=b"PUT"), PAGE) is None


def test_a_preflight_is_told_what_is_allowed() -> None:
    answer = preflight(cors(methods=(b"GET", b"PUT"), headers=(b"x-a", b"x-b"), max_age_seconds=60))

    assert answer == {
        b"access-control-allow-origin": PAGE,
        b"vary": b"origin",
        b"access-control-allow-methods": b"GET, PUT",
        b"access-control-allow-headers": b"x-a, x-b",
        b"access-control-max-age": b"60",
    }


def test_a_star_allows_what_is_asked_for() -> None:
    policy = cors(methods=(b"*",), headers=(b"*",), has_credentials=True)

    answer = preflight(policy, access_control_request_headers=b"x-whatever")

    assert answer[b"access-control-allow-methods"] == b"PUT"
    assert answer[b"access-control-allow-headers"] == b"x-whatever"
    assert answer[b"access-control-allow-credentials"] == b"true"


def test_every_page_is_named_by_a_star_but_not_with_credentials() -> None:
    assert preflight(cors(b"*"))[b"access-control-allow-origin"] == b"*"
    assert preflight(cors(b"*", has_credentials=True))[b"access-control-allow-origin"] == PAGE


def test_a_response_says_what_the_route_says_and_not_what_the_endpoint_said() -> None:
    said: Headers = [(b"access-control-allow-origin", b"https://evil.org"), (b"x", b"1")]

    marked = cors(expose=(b"x-a", b"x-b")).mark(said, PAGE)

    assert marked == [
        (b"x", b"1"),
        (b"access-control-allow-origin", PAGE),
        (b"vary", b"origin"),
        (b"access-control-expose-headers", b"x-a, x-b"),
    ]
