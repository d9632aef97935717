"""Which requests a policy is for, and what it tells apart."""

import ipaddress

import pytest

from policies.attributes import Header, Identity, Peer, RequestHead
from policies.matching import Exact, Regex
from policies.path_match import PathKind, PathMatch
from policies.selector import (
    Condition,
    HeaderCondition,
    IdentityCondition,
    MethodCondition,
    PathCondition,
    QueryCondition,
    SourceCondition,
    key_of,
)

REVIEWS = Peer(Identity("cluster.local", "default", "reviews"), "10.0.0.1", 1)
NOBODY = Peer(None, "fd00::1", 1)


def head(*headers: Header, method: bytes = b"GET", path: bytes = b"/a", query: bytes = b"") -> RequestHead:
    return RequestHead(method, b"app", path, query, list(headers))


@pytest.mark.parametrize(
    ("condition", "request_head", "part"),
    [
        (HeaderCondition(b"x", Exact(b"1")), head((b"x", b"1")), b""),
        (HeaderCondition(b"x", Exact(b"1")), head((b"x", b"2"), (b"x", b"1")), None),
        (HeaderCondition(b"x", Exact(b"1")), head(), None),
        (HeaderCondition(b"x", Exact(b"1"), is_inverted=True), head((b"x", b"1")), None),
        (HeaderCondition(b"x", Exact(b"1"), is_inverted=True), head((b"x", b"2")), b""),
        (HeaderCondition(b"x", Exact(b"1"), is_inverted=True), head(), b""),
        (HeaderCondition(b"x", Regex.parse("[0-9]+")), head((b"x", b"12")), b""),
        (HeaderCondition(b"x"), head((b"x", b"2")), b"2"),
        (HeaderCondition(b"x"), head(), None),
        (HeaderCondition(b"host"), head(), b"app"),
        (QueryCondition(b"q", Exact(b"a b")), head(query=b"q=a%20b"), b""),
        (QueryCondition(b"q"), head(query=b"q=1&q=2"), b"1"),
        (QueryCondition(b"q"), head(), None),
        (PathCondition(), head(), b"/a"),
        (PathCondition(PathMatch(PathKind.PREFIX, b"/a")), head(path=b"/a/b"), b""),
        (PathCondition(PathMatch(PathKind.PREFIX, b"/a")), head(path=b"/ab"), None),
        (MethodCondition((b"GET", b"HEAD")), head(), b""),
        (MethodCondition((b"POST",)), head(), None),
        (SourceCondition(ipaddress.ip_network("10.0.0.0/8")), head(), b""),
        (SourceCondition(ipaddress.ip_network("10.0.0.0/8"), is_distinct=True), head(), b"\x0a\x00\x00\x01"),
        (SourceCondition(ipaddress.ip_network("10.1.0.0/16")), head(), None),
        (SourceCondition(ipaddress.ip_network("fd00::/8")), head(), None),
        (IdentityCondition(namespaces=("default", "shop")), head(), b""),
        (IdentityCondition(namespaces=("shop",)), head(), None),
        (IdentityCondition(service_accounts=("default/reviews",)), head(), b""),
        (IdentityCondition(service_accounts=("shop/reviews",)), head(), None),
        (IdentityCondition(principals=("cluster.local/ns/default/sa/reviews",)), head(), b""),
        (IdentityCondition(principals=("other/ns/default/sa/reviews",)), head(), None),
        (IdentityCondition(is_distinct=True), head(), b"cluster.local/ns/default/sa/reviews"),
    ],
)
def test_a_condition_holds_and_tells_apart_what_it_says(
    condition: Condition, request_head: RequestHead, part: bytes | None
) -> None:
    assert condition.part(request_head, REVIEWS) == part


def test_clients_without_an_identity_count_as_one_and_are_never_taken_for_somebody() -> None:
    assert IdentityCondition(is_distinct=True).part(head(), NOBODY) == b""
    assert IdentityCondition(namespaces=("default",), is_distinct=True).part(head(), NOBODY) is None


def test_all_conditions_must_hold_and_values_of_different_conditions_are_not_confused() -> None:
    both = (HeaderCondition(b"a"), HeaderCondition(b"b"))

    assert key_of(both, head((b"a", b"1"), (b"b", b"")), REVIEWS) == (b"1", b"")
    assert key_of(both, head((b"a", b""), (b"b", b"1")), REVIEWS) == (b"", b"1")
    assert key_of(both, head((b"a", b"1")), REVIEWS) is None
