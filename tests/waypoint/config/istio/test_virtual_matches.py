"""One match of a VirtualService; their order and what they lead to: test_virtual_services, conformance."""

from typing import Any

import pytest
from msgspec import convert

from l4.discovery.registry import Registry
from policies.attributes import Identity, Peer, RequestHead
from policies.path_match import PathKind
from waypoint.config.istio.virtual_matches import match_of
from waypoint.config.istio.virtual_service import HTTPMatch

PEER = Peer(Identity("cluster.local", "books", "client"), "10.0.0.9", 40000)
NOBODY = Registry({}, {})


def accepts(match: dict[str, Any], path: str = "/", *headers: tuple[bytes, bytes], query: bytes = b"") -> bool:
    compiled = match_of(convert(match, HTTPMatch), NOBODY)
    head = RequestHead(b"GET", b"reviews", path.encode(), query, list(headers), has_query=bool(query))
    is_from = compiled.source is None or compiled.source.accepts(PEER)
    return compiled.path.accepts(head.path) and compiled.accepts_rest(head) and is_from


@pytest.mark.parametrize(
    ("uri", "accepted", "refused"),
    [
        ({"exact": "/a"}, "/a", "/a/"),
        ({"exact": "/x/../a"}, "/a", "/x/../a"),
        ({"prefix": "/a"}, "/ab", "/b"),
        ({"regex": "/a[0-9]"}, "/a1", "/a12"),
    ],
)
def test_a_path_is_exact_or_a_prefix_of_characters_or_an_expression(
    uri: dict[str, str], accepted: str, refused: str
) -> None:
    assert accepts({"uri": uri}, accepted)
    assert not accepts({"uri": uri}, refused)


def test_without_a_path_any_will_do() -> None:
    match = match_of(HTTPMatch(), NOBODY)

    assert (match.path.kind, match.path.value) == (PathKind.TEXT_PREFIX, b"/")


def test_an_asterisk_as_expression_accepts_anything_but_a_missing_header() -> None:
    match = {"headers": {"X-User": {"regex": "*"}}}

    assert accepts(match, "/", (b"x-user", b""))
    assert not accepts(match, "/")
    assert accepts({"uri": {"regex": "*"}}, "/whatever")


def test_case_of_a_path_is_ignored_where_that_is_asked_for() -> None:
    assert accepts({"uri": {"prefix": "/Reviews"}, "ignoreUriCase": True}, "/REVIEWS/1")


def test_all_parts_of_a_match_must_hold() -> None:
    match = {
        "method": {"exact": "GET"},
        "authority": {"prefix": "rev"},
        "queryParams": {"User": {"exact": "me"}},
        "withoutHeaders": {"x-beta": {}},
        "sourceNamespace": "books",
    }

    assert accepts(match, query=b"User=me")
    assert not accepts(match, query=b"user=me")
    assert not accepts(match, "/", (b"x-beta", b"1"), query=b"User=me")
    assert not accepts({**match, "sourceNamespace": "other"}, query=b"User=me")
    assert not accepts({**match, "method": {"exact": "POST"}}, query=b"User=me")


def test_labels_that_no_workload_has_are_nobodys() -> None:
    assert not accepts({"sourceLabels": {"app": "reviews"}})
