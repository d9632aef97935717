import pytest

from policies.attributes import RequestHead
from policies.matching import Regex
from policies.rewrite import HeaderEdit, PathEdit, PortSource, Redirect, RegexEdit, TextPrefixEdit, UrlRewrite


def test_set_replaces_all_values_of_a_name() -> None:
    edit = HeaderEdit(set=((b"env", b"test"),))

    assert edit.apply([(b"env", b"a"), (b"x", b"1"), (b"env", b"b")]) == [(b"x", b"1"), (b"env", b"test")]


def test_add_leaves_the_values_that_are_there() -> None:
    edit = HeaderEdit(add=((b"env", b"test"),))

    assert edit.apply([(b"env", b"prod")]) == [(b"env", b"prod"), (b"env", b"test")]


def test_remove_deletes_all_values_and_minds_no_missing_ones() -> None:
    edit = HeaderEdit(remove=(b"env", b"missing"))

    assert edit.apply([(b"env", b"a"), (b"x", b"1"), (b"env", b"b")]) == [(b"x", b"1")]


def test_remove_comes_last() -> None:
    edit = HeaderEdit(set=((b"a", b"1"),), add=((b"b", b"2"),), remove=(b"a", b"b"))

    assert edit.apply([(b"c", b"3")]) == [(b"c", b"3")]


def test_the_headers_given_are_left_as_they_were() -> None:
    headers = [(b"env", b"prod")]

    edited = HeaderEdit().apply(headers)

    assert edited == headers
    assert edited is not headers


def test_setting_host_changes_the_authority_of_a_request() -> None:
    head = RequestHead(b"GET", b"reviews:9080", b"/", b"", [(b"x", b"1")])

    HeaderEdit(set=((b"env", b"test"),), authority=b"reviews.example.com").apply_to(head)

    assert head.authority == b"reviews.example.com"
    assert head.headers == [(b"x", b"1"), (b"env", b"test")]


def test_an_edit_without_host_keeps_the_authority() -> None:
    head = RequestHead(b"GET", b"reviews:9080", b"/", b"", [])

    HeaderEdit(remove=(b"x",)).apply_to(head)

    assert head.authority == b"reviews:9080"


@pytest.mark.parametrize(
    ("path", "prefix", "value", "edited"),
    [
        (b"/foo/bar", b"/foo", b"/xyz", b"/xyz/bar"),
        (b"/foo/bar", b"/foo", b"/xyz/", b"/xyz/bar"),
        (b"/foo", b"/foo", b"/xyz", b"/xyz"),
        (b"/foo/", b"/foo", b"/xyz", b"/xyz/"),
        (b"/foo/bar", b"/foo", b"", b"/bar"),
        (b"/foo/", b"/foo", b"", b"/"),
        (b"/foo", b"/foo", b"", b"/"),
        (b"/foo/", b"/foo", b"/", b"/"),
        (b"/foo", b"/foo", b"/", b"/"),
        (b"/bar", b"", b"/xyz", b"/xyz/bar"),
        (b"/", b"", b"/xyz", b"/xyz/"),
        (b"/foo/bar", None, b"/full", b"/full"),
    ],
)
def test_a_path_edit(path: bytes, prefix: bytes | None, value: bytes, edited: bytes) -> None:
    assert PathEdit(value, prefix).apply(path) == edited


def test_a_rewrite_changes_what_the_endpoint_is_asked_and_tells_the_original() -> None:
    head = RequestHead(b"GET", b"reviews:9080", b"/v2/list", b"a=1", [], has_query=True)

    UrlRewrite(b"reviews.example.com", PathEdit(b"/", b"/v2")).apply_to(head)

    assert (head.authority, head.target) == (b"reviews.example.com", b"/list?a=1")
    assert head.headers == [(b"x-envoy-original-path", b"/v2/list?a=1")]


def test_a_rewrite_that_changes_nothing_tells_nothing() -> None:
    head = RequestHead(b"GET", b"reviews:9080", b"/list", b"", [])

    UrlRewrite(path=PathEdit(b"/list")).apply_to(head)

    assert head.headers == []


@pytest.mark.parametrize(
    ("authority", "redirect", "location"),
    [
        (b"reviews:9080", Redirect(), b"http://reviews:9080/v1/x?a=1"),
        (b"reviews", Redirect(), b"http://reviews/v1/x?a=1"),
        (b"reviews:80", Redirect(), b"http://reviews/v1/x?a=1"),
        (b"reviews:80", Redirect(scheme=b"https"), b"https://reviews/v1/x?a=1"),
        (b"reviews:9080", Redirect(scheme=b"https"), b"https://reviews:9080/v1/x?a=1"),
        (b"reviews:9080", Redirect(scheme=b"https", port_source=PortSource.SCHEME), b"https://reviews/v1/x?a=1"),
        (b"reviews:9080", Redirect(scheme=b"https", port=8443), b"https://reviews:8443/v1/x?a=1"),
        (b"reviews:9080", Redirect(scheme=b"https", port=443), b"https://reviews/v1/x?a=1"),
        (b"reviews:9080", Redirect(port=80), b"http://reviews/v1/x?a=1"),
        (b"reviews:9080", Redirect(hostname=b"example.org"), b"http://example.org/v1/x?a=1"),
        (b"reviews:9080", Redirect(hostname=b"example.org:1"), b"http://example.org:1/v1/x?a=1"),
        (b"reviews", Redirect(port_source=PortSource.LISTENER), b"http://reviews:8080/v1/x?a=1"),
        (b"evil:666", Redirect(port_source=PortSource.LISTENER), b"http://evil:8080/v1/x?a=1"),
        (
            b"reviews:666",
            Redirect(hostname=b"example.org", port_source=PortSource.LISTENER),
            b"http://example.org:8080/v1/x?a=1",
        ),
        (b"[::1]:9080", Redirect(), b"http://[::1]:9080/v1/x?a=1"),
        (b"[::1]", Redirect(), b"http://[::1]/v1/x?a=1"),
        (b"reviews", Redirect(path=PathEdit(b"/full")), b"http://reviews/full?a=1"),
        (b"reviews", Redirect(path=PathEdit(b"/full"), query=b"b=2"), b"http://reviews/full?b=2"),
        (b"reviews", Redirect(path=PathEdit(b"/full"), query=b""), b"http://reviews/full?"),
        (b"reviews", Redirect(path=PathEdit(b"/v2", b"/v1")), b"http://reviews/v2/x?a=1"),
    ],
)
def test_where_a_redirect_leads(authority: bytes, redirect: Redirect, location: bytes) -> None:
    head = RequestHead(b"GET", authority, b"/v1/x", b"a=1", [], has_query=True)

    assert redirect.location(head, 8080) == location


def test_a_port_of_the_listener_that_is_the_schemes_own_is_not_written() -> None:
    head = RequestHead(b"GET", b"reviews:9080", b"/v1", b"", [])

    assert Redirect(port_source=PortSource.LISTENER).location(head, 80) == b"http://reviews/v1"


@pytest.mark.parametrize(("query", "target"), [(b"", b"/new?own=1"), (b"a=1", b"/new?own=1&a=1")])
def test_a_rewritten_query_comes_before_the_requests_own(query: bytes, target: bytes) -> None:
    head = RequestHead(b"GET", b"reviews", b"/v1", query, [], has_query=bool(query))

    UrlRewrite(path=PathEdit(b"/new"), query=b"own=1").apply_to(head)

    assert head.target == target


@pytest.mark.parametrize(
    ("edit", "path", "edited"),
    [
        (TextPrefixEdit(b"/", 3), b"/a/b", b"/b"),
        (TextPrefixEdit(b"/c", 2), b"/ab", b"/cb"),
        (RegexEdit(Regex.parse("^/v([0-9])/(.*)"), rb"/\2/\1"), b"/v1/x", b"/x/1"),
        (RegexEdit(Regex.parse("a"), b"b"), b"/aXa", b"/bXb"),
        (RegexEdit(Regex.parse("^/"), b""), b"/x", b"/x"),
        (RegexEdit(Regex.parse("nothing"), b"x"), b"/path", b"/path"),
    ],
)
def test_istios_edits_of_a_path(edit: TextPrefixEdit | RegexEdit, path: bytes, edited: bytes) -> None:
    assert edit.apply(path) == edited
