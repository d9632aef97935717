"""Client selectors become conditions; what conditions do: tests/policies/test_selector.py."""

from typing import Any

import pytest
from msgspec import convert

from policies.attributes import Identity, Peer, RequestHead
from policies.path_normalization import BASE
from policies.selector import MethodCondition
from waypoint.config.ours.policy_api import ClientSelector
from waypoint.config.ours.selectors import conditions_of, labelled_conditions_of

PEER = Peer(Identity("cluster.local", "books", "reader"), "10.1.2.3", 40000)


def parts(selector: dict[str, Any], path: str = "/", *headers: tuple[bytes, bytes], query: bytes = b"") -> list[Any]:
    """What each condition makes of a request: None where it does not hold, else its part of the key."""
    head = RequestHead(b"GET", b"reviews", path.encode(), query, list(headers), has_query=bool(query))
    return [it.part(head, PEER) for it in conditions_of([convert(selector, ClientSelector)], BASE)]


def test_without_fields_a_selector_asks_for_nothing() -> None:
    assert conditions_of([ClientSelector()], BASE) == ()


def test_methods_are_one_condition() -> None:
    selector = convert({"methods": ["GET", "HEAD"]}, ClientSelector)

    assert conditions_of([selector], BASE) == (MethodCondition((b"GET", b"HEAD")),)


@pytest.mark.parametrize(
    ("selector", "path", "holds"),
    [
        ({"path": {"type": "Exact", "value": "/a"}}, "/a", True),
        ({"path": {"type": "Exact", "value": "/x/../a"}}, "/a", True),
        ({"path": {"type": "PathPrefix", "value": "/a"}}, "/a/b", True),
        ({"path": {"type": "PathPrefix", "value": "/a"}}, "/ab", False),
        ({"path": {"type": "RegularExpression", "value": "/a[0-9]"}}, "/a1", True),
        ({"sourceCIDR": {"type": "Exact", "value": "10.1.0.0/16"}}, "/", True),
        ({"sourceCIDR": {"type": "Exact", "value": "10.2.0.0/16"}}, "/", False),
        ({"clientIdentity": {"namespaces": ["books"]}}, "/", True),
        ({"clientIdentity": {"namespaces": ["films"]}}, "/", False),
    ],
)
def test_a_value_holds_or_not_and_tells_nothing_apart(selector: dict[str, Any], path: str, holds: bool) -> None:
    assert parts(selector, path) == [b"" if holds else None]


def test_headers_are_found_in_any_case_and_may_be_inverted() -> None:
    selector = {"headers": [{"name": "X-User", "value": "me"}, {"name": "X-Beta", "value": "1", "invert": True}]}

    assert parts(selector, "/", (b"x-user", b"me")) == [b"", b""]
    assert parts(selector, "/", (b"x-user", b"you"), (b"x-beta", b"1")) == [None, None]


def test_distinct_values_are_parts_of_the_key_and_are_named() -> None:
    selector = {
        "headers": [{"name": "X-User", "type": "Distinct"}],
        "path": {"type": "Distinct"},
        "queryParams": [{"name": "shop", "type": "Distinct"}],
        "methods": ["GET"],
    }

    labelled = labelled_conditions_of([convert(selector, ClientSelector)], BASE)

    assert sorted(label for _, label in labelled) == ["", "header x-user", "path", "query shop"]
    assert sorted(parts(selector, "/a", (b"x-user", b"me"), query=b"shop=7")) == [b"", b"/a", b"7", b"me"]


def test_several_selectors_must_all_hold() -> None:
    selectors = [convert(it, ClientSelector) for it in ({"methods": ["GET"]}, {"methods": ["POST"]})]

    assert len(conditions_of(selectors, BASE)) == 2
