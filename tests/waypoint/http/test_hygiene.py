import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Header, RequestHead
from waypoint.errors import BadRequest, UpstreamProtocolError
from waypoint.http.events import EMPTY, STREAMED, Body
from waypoint.http.hygiene import (
    ORDINARY_OF_REQUESTS,
    ORDINARY_OF_RESPONSES,
    canonical_request,
    canonical_response,
    normal_path,
)
from waypoint.http.settings import HttpSettings
from waypoint.http.trailers import request_trailers, response_trailers


def request(*fields: Header, method: bytes = b"GET", target: bytes = b"/") -> tuple[RequestHead, Body]:
    return canonical_request(method, target, [(b"Host", b"reviews"), *fields])


def refusal(*fields: Header, target: bytes = b"/", host: bytes | None = b"reviews") -> tuple[int, str]:
    """The status and detail with which a request is refused."""
    raw = [*fields] if host is None else [(b"host", host), *fields]
    with pytest.raises(BadRequest) as caught:
        canonical_request(b"GET", target, raw)
    return caught.value.status, caught.value.detail


# -- where a request goes ------------------------------------------------------------------------------------------


def test_the_head_has_lower_case_names_and_its_host_as_authority() -> None:
    head, body = request((b"X-Request-ID", b"1"), (b"Accept", b"*/*"), target=b"/reviews/0?full")

    assert head == RequestHead(
        b"GET", b"reviews", b"/reviews/0", b"full", [(b"x-request-id", b"1"), (b"accept", b"*/*")], True
    )
    assert body == EMPTY


def test_an_empty_query_is_not_the_same_as_none() -> None:
    assert request(target=b"/a?")[0].target == b"/a?"
    assert request(target=b"/a")[0].target == b"/a"


@pytest.mark.parametrize("host", [b"reviews", b"reviews:9080", b"10.0.0.1:80", b"[2001:db8::1]:80", b"a_b-c~d.e"])
def test_a_host_is_a_name_or_an_address_with_or_without_port(host: bytes) -> None:
    assert canonical_request(b"GET", b"/", [(b"host", host)])[0].authority == host


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        (b"Reviews.Default", b"reviews.default"),
        (b"reviews.", b"reviews"),
        (b"REVIEWS.:9080", b"reviews:9080"),
        (b"[2001:DB8::1]:80", b"[2001:db8::1]:80"),
    ],
)
def test_an_authority_has_one_spelling(host: bytes, authority: bytes) -> None:
    assert canonical_request(b"GET", b"/", [(b"host", host)])[0].authority == authority


@pytest.mark.parametrize(
    "host",
    [
        b".",
        b"a..",
        b"a..b",
        b".a",
        b"a..:80",
        b"a b",
        b"a/evil",
        b"user@a",
        b"a,b",
        b"a:b",
        b"a?b",
        b"a#b",
        b"[::1",
        b"a\\b",
        b"\xe4",
    ],
)
def test_a_host_that_others_may_read_differently_is_refused(host: bytes) -> None:
    assert refusal(host=host) == (400, "invalid_host_header")


def test_a_request_has_exactly_one_host() -> None:
    assert refusal(host=None) == (400, "missing_host_header")
    assert refusal(host=b"") == (400, "missing_host_header")
    assert refusal((b"Host", b"reviews")) == (400, "http1.duplicate_host")


@pytest.mark.parametrize(
    ("target", "authority", "forwarded"),
    [
        (b"http://ratings:80/a?b", b"ratings:80", b"/a?b"),
        (b"HTTPS://ratings", b"ratings", b"/"),
        (b"http://ratings?b", b"ratings", b"/?b"),
        (b"http://ratings/a/../b", b"ratings", b"/b"),
        (b"http://ratings#x", b"ratings", b"/"),
    ],
)
def test_the_authority_of_an_absolute_target_wins_over_host(target: bytes, authority: bytes, forwarded: bytes) -> None:
    head, _ = request(target=target)

    assert (head.authority, head.target) == (authority, forwarded)


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        (b"http://user@ratings/", "invalid_host_header"),
        (b"http:///a", "missing_host_header"),
        (b"ftp://ratings/", "http1.invalid_target"),
        (b"reviews/0", "http1.invalid_target"),
        (b"*", "http1.invalid_target"),
        (b"", "http1.invalid_target"),
    ],
)
def test_a_target_of_another_form_is_refused(target: bytes, detail: str) -> None:
    assert refusal(target=target) == (400, detail)


def test_options_may_ask_the_server_as_a_whole() -> None:
    assert request(method=b"OPTIONS", target=b"*")[0].target == b"*"


# -- the path ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/", b"/"),
        (b"/a/../admin", b"/admin"),
        (b"/a/%2e%2E/admin", b"/admin"),
        (b"/a/.%2e/admin", b"/admin"),
        (b"/../../etc", b"/etc"),
        (b"/a/./b", b"/a/b"),
        (b"/a/b/..", b"/a/"),
        (b"/a/.", b"/a/"),
        (b"/..", b"/"),
        (b"/.hidden", b"/.hidden"),
        (b"/a/...", b"/a/..."),
        (b"/%61dmin", b"/admin"),
        (b"/a\\..\\admin", b"/admin"),
        (b"/a/..%2fadmin", b"/a/..%2fadmin"),
        (b"/a%5c..", b"/a%5c.."),
        (b"//admin", b"//admin"),
        (b"//../admin", b"/admin"),
        (b"/a;x=1/b", b"/a;x=1/b"),
        (b"/%", b"/%"),
        (b"/%zz", b"/%zz"),
        (b"/100%25", b"/100%25"),
    ],
)
def test_a_path_has_one_spelling(path: bytes, normal: bytes) -> None:
    assert request(target=path)[0].path == normal


@pytest.mark.parametrize(
    "target",
    [
        b"/%00",
        b"/a%00b",
        b"/%0%30",
        b"/a b",
        b"/\xe4",
        b"/\x01",
        b"/\x7f",
        b"/a?\x00",
        b"/a/%2%45%2%45/b",
        b"/%%32e",
        b"/%%32F",
    ],
)
def test_a_path_that_cannot_be_read_in_one_way_only_is_refused(target: bytes) -> None:
    assert refusal(target=target) == (400, "path_normalization_failed")


def test_the_query_is_forwarded_as_it_came_but_for_a_fragment() -> None:
    assert request(target=b"/a?x=%61&y=/../%2e\\#secret")[0].target == b"/a?x=%61&y=/../%2e\\"


@pytest.mark.parametrize(
    ("normalization", "path", "normal"),
    [
        ("NONE", b"//a/../%61\\b%2f", b"//a/../%61\\b%2f"),
        ("MERGE_SLASHES", b"//a///b//", b"/a/b/"),
        ("MERGE_SLASHES", b"/a//../b", b"/a/b"),
        ("MERGE_SLASHES", b"/a%2fb", b"/a%2fb"),
        ("DECODE_AND_MERGE_SLASHES", b"/a/..%2fadmin", b"/admin"),
        ("DECODE_AND_MERGE_SLASHES", b"/a%5C..%5cadmin", b"/admin"),
        ("DECODE_AND_MERGE_SLASHES", b"/a%2f%2Fb", b"/a/b"),
        ("DECODE_AND_MERGE_SLASHES", b"/a%252fb", b"/a%252fb"),
    ],
)
def test_how_far_a_path_is_normalised_is_a_setting(normalization: str, path: bytes, normal: bytes) -> None:
    head, _ = canonical_request(b"GET", path, [(b"host", b"a")], HttpSettings(path_normalization=normalization))

    assert head.path == normal


def test_a_fragment_and_a_nul_are_never_passed_on() -> None:
    settings = HttpSettings(path_normalization="NONE")

    assert canonical_request(b"GET", b"/a#b", [(b"host", b"a")], settings)[0].path == b"/a"
    with pytest.raises(BadRequest):
        canonical_request(b"GET", b"/a%00", [(b"host", b"a")], settings)


@given(
    st.sampled_from(["BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]),
    st.lists(st.sampled_from([b"/", b".", b"..", b"%", b"2", b"5", b"e", b"E", b"%2e", b"%2F", b"%5c", b"\\", b"a"])),
)
def test_a_normal_path_is_its_own_normal_form_and_has_no_dot_segments(normalization: str, parts: list[bytes]) -> None:
    try:
        path = normal_path(b"/" + b"".join(parts), normalization)
    except BadRequest:
        return

    assert normal_path(path, normalization) == path
    assert path.startswith(b"/")
    assert not {b".", b".."} & set(path.split(b"/"))


# -- where a request ends ------------------------------------------------------------------------------------------


def test_the_framing_is_ours_and_not_a_header() -> None:
    assert request((b"Content-Length", b"010")) == (RequestHead(b"GET", b"reviews", b"/", b"", []), Body(10))
    assert request((b"Transfer-Encoding", b"Chunked")) == (RequestHead(b"GET", b"reviews", b"/", b"", []), STREAMED)


@pytest.mark.parametrize("value", [b"", b"+1", b"-1", b"1_0", b"0x10", b"1,1", b"1 1", b"\xb2", b"9" * 19])
def test_a_length_is_digits(value: bytes) -> None:
    assert refusal((b"content-length", value)) == (400, "http1.invalid_content_length")


@pytest.mark.parametrize("value", [b"gzip, chunked", b"xchunked", b",chunked", b"identity", b"chunked, chunked", b""])
def test_chunked_is_the_only_coding(value: bytes) -> None:
    assert refusal((b"transfer-encoding", value)) == (501, "http1.invalid_transfer_encoding")


def test_only_the_one_expectation_there_is_is_passed_on() -> None:
    assert request((b"Expect", b"100-Continue"))[0].headers == [(b"expect", b"100-Continue")]
    assert refusal((b"expect", b"a miracle")) == (417, "expectation_failed")


# -- what concerns one hop only ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baggage", "kept"),
    [
        (b"k8s.namespace.name=admin,service.name=admin,service.version=v1,app.name=a,app.version=b", []),
        (b"K8s.Cluster.Name=a , tenant=blue;ttl=1,\tSERVICE.name=b", [(b"baggage", b"tenant=blue;ttl=1")]),
        (b"tenant=k8s.x, service=a", [(b"baggage", b"tenant=k8s.x,service=a")]),
        (b"", []),
    ],
)
def test_baggage_goes_on_without_what_would_name_a_workload(baggage: bytes, kept: list[Header]) -> None:
    assert request((b"Baggage", baggage))[0].headers == kept


def test_headers_of_the_hop_and_claims_of_identity_stay_behind() -> None:
    names = [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Upgrade",
        b"HTTP2-Settings",
        b"X-Envoy-Peer-Metadata",
        b"X-Envoy-Peer-Metadata-Id",
        b"X-Envoy-Attempt-Count",
        b"X-Envoy-Expected-Rq-Timeout-Ms",
        b"X-Forwarded-Client-Cert",
    ]

    head, _ = request(*((name, b"x") for name in names), (b"accept", b"*/*"))

    assert head.headers == [(b"accept", b"*/*")]


def test_what_a_client_asks_of_us_is_kept_apart_and_goes_no_further() -> None:
    asked = [
        (b"x-envoy-retry-on", b"5xx"),
        (b"x-envoy-retry-grpc-on", b"unavailable"),
        (b"x-envoy-max-retries", b"3"),
        (b"x-envoy-retriable-status-codes", b"409"),
        (b"x-envoy-retriable-header-names", b"x-again"),
        (b"x-envoy-upstream-rq-timeout-ms", b"250"),
        (b"x-envoy-upstream-rq-per-try-timeout-ms", b"100"),
        (b"x-envoy-hedge-on-per-try-timeout", b"true"),
    ]

    head, _ = request(*((name.title(), value) for name, value in asked), (b"accept", b"*/*"))

    assert head.overrides == asked
    assert head.headers == [(b"accept", b"*/*")]


def test_what_connection_names_stays_behind() -> None:
    head, _ = request(
        (b"Connection", b"close, X-One"), (b"x-one", b"1"), (b"connection", b"\tx-TWO "), (b"X-Two", b"2"), (b"x", b"3")
    )

    assert head.headers == [(b"x", b"3")]


@pytest.mark.parametrize(
    "name",
    [
        b"authorization",
        b"Host",
        b"content-length",
        b"transfer-encoding",
        b"x-forwarded-for",
        b"X-Forwarded-Host",
        b"x-forwarded-proto",
        b"x-forwarded-client-cert",
        b":path",
    ],
)
def test_connection_may_not_take_away_what_others_rely_on(name: bytes) -> None:
    assert refusal((b"connection", b"close, " + name)) == (400, "connection_header_sanitization")


def test_connection_names_te_as_it_should_and_te_stays() -> None:
    assert request((b"Connection", b"TE"), (b"TE", b"trailers"))[0].headers == [(b"te", b"trailers")]


def test_connection_may_name_only_so_many() -> None:
    assert request((b"connection", b"a,b,c,d,e,f,g,h,i"))[0].headers == []
    assert refusal((b"connection", b"a,b,c,d,e,f,g,h,i,j")) == (400, "connection_header_sanitization")


def test_of_te_only_trailers_is_passed_on() -> None:
    assert request((b"TE", b"gzip, Trailers;q=1"))[0].headers == [(b"te", b"trailers")]
    assert request((b"te", b"gzip"))[0].headers == []


@pytest.mark.parametrize(
    ("value", "is_kept"),
    [(b"a" * 128, True), (b"a" * 129, False), (b"a b", False), (b"caf\xe9", False), (b"", False)],
)
def test_a_request_id_is_short_and_visible_or_not_passed_on(value: bytes, is_kept: bool) -> None:
    field = (b"x-request-id", value)

    assert request(field)[0].headers == [field] * is_kept
    assert request(field, (b"x-request-id", b"other"))[0].headers == [field if is_kept else (b"x-request-id", b"other")]


def test_values_are_bytes_that_lose_no_more_than_trailing_blanks() -> None:
    head, _ = request((b"x", b"\xa0caf\xe9\x85 \t"), (b"empty", b""), (b"twice", b"1"), (b"twice", b"2"))

    assert head.headers == [(b"x", b"\xa0caf\xe9\x85"), (b"empty", b""), (b"twice", b"1"), (b"twice", b"2")]


# -- responses -----------------------------------------------------------------------------------------------------


def test_a_response_keeps_its_headers_and_loses_those_of_the_hop() -> None:
    head, body, is_chunked = canonical_response(
        200,
        [
            (b"Content-Type", b"text/html "),
            (b"Server", b"gunicorn"),
            (b"Connection", b"x-hop"),
            (b"connection", b"close"),
            (b"X-Hop", b"1"),
            (b"X-Envoy-Upstream-Service-Time", b"7"),
            (b"Content-Length", b"3"),
            (b"Set-Cookie", b"a=1"),
            (b"Set-Cookie", b"b=2"),
        ],
        b"GET",
    )

    assert head.headers == [(b"content-type", b"text/html"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    assert (body, is_chunked) == (Body(3), False)


def test_a_response_without_length_is_chunked_or_ends_with_the_connection() -> None:
    assert canonical_response(200, [(b"transfer-encoding", b"CHUNKED")], b"GET")[1:] == (STREAMED, True)
    assert canonical_response(200, [], b"GET")[1:] == (STREAMED, False)


@pytest.mark.parametrize(
    ("status", "method", "headers"),
    [(200, b"HEAD", [(b"content-length", b"7")]), (304, b"GET", [(b"content-length", b"7")]), (204, b"GET", [])],
)
def test_a_response_that_has_no_body_may_still_tell_its_length(
    status: int, method: bytes, headers: list[Header]
) -> None:
    head, body, _ = canonical_response(status, [(b"Content-Length", b"07")], method)

    assert (head.headers, body) == (headers, EMPTY)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"content-length", b"+1")],
        [(b"content-length", b"")],
        [(b"content-length", b"9" * 19)],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
    ],
)
def test_a_response_whose_end_is_in_doubt_is_the_endpoints_fault(fields: list[Header]) -> None:
    with pytest.raises(UpstreamProtocolError):
        canonical_response(200, fields, b"GET")


def test_trailers_cannot_say_where_a_message_ends_whoever_let_them_through() -> None:
    fields = [(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked"), (b"X-Sum", b" 1\t")]

    assert request_trailers(fields, HttpSettings()) == response_trailers(fields) == [(b"x-sum", b"1")]


def test_names_that_peers_choose_are_not_kept_for_ever() -> None:
    for number in range(3000):
        canonical_response(200, [(b"X-%d" % number, b"1")], b"GET")
        canonical_request(b"GET", b"/", [(b"Host", b"app"), (b"X-%d" % number, b"1")])
    canonical_request(b"GET", b"/", [(b"Host", b"app"), (b"X" * 300, b"1")])

    for known in (ORDINARY_OF_REQUESTS, ORDINARY_OF_RESPONSES):
        assert 0 < len(known) <= 1024
        assert max(map(len, known)) < 300


@pytest.mark.parametrize("times", [1, 2])
def test_a_name_has_one_spelling_each_time(times: int) -> None:
    for _ in range(times):
        head, _ = canonical_request(b"GET", b"/", [(b"Host", b"app"), (b"X-Once-More", b" a "), (b"x-once-more", b"b")])
        assert head.headers == [(b"x-once-more", b" a"), (b"x-once-more", b"b")]
