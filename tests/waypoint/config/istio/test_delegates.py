"""Which requests a delegate's route may take, and what of its root remains; whole objects: test_virtual_services."""

from typing import Any

import pytest
from msgspec import convert

from waypoint.config.istio.delegates import delegated
from waypoint.config.istio.virtual_service import HTTPRoute

ANSWER = {"directResponse": {"status": 200}}


def route(**parts: Any) -> HTTPRoute:
    return convert({**ANSWER, **parts}, HTTPRoute)


def prefix(path: str) -> dict[str, Any]:
    return {"uri": {"prefix": path}}


@pytest.mark.parametrize(
    ("root", "leaf"),
    [
        pytest.param(prefix("/a"), prefix("/a/b"), id="a longer prefix"),
        pytest.param(prefix("/a"), {"uri": {"exact": "/a/b"}}, id="a path below"),
        pytest.param(prefix("/a"), {"headers": {"x": {"exact": "1"}}}, id="more to ask"),
        pytest.param({"uri": {"regex": "/a.*"}}, {"uri": {"regex": "/a.*"}}, id="the same expression"),
        pytest.param({"headers": {"x": {}}}, {"headers": {"x": {"exact": "1"}}}, id="a value where any will do"),
        pytest.param({"port": 80}, {"port": 80}, id="the same port"),
    ],
)
def test_a_match_within_the_roots_is_taken(root: dict[str, Any], leaf: dict[str, Any]) -> None:
    taken = delegated(route(match=[root]), route(match=[leaf]))

    assert taken is not None
    assert len(taken.match) == 1


@pytest.mark.parametrize(
    ("root", "leaf"),
    [
        pytest.param(prefix("/a/b"), prefix("/a"), id="a shorter prefix"),
        pytest.param({"uri": {"exact": "/a"}}, prefix("/a"), id="a prefix of a path"),
        pytest.param({"uri": {"regex": "/a.*"}}, prefix("/a/b"), id="anything within an expression"),
        pytest.param({"headers": {"x": {"exact": "1"}}}, {"headers": {"x": {"exact": "2"}}}, id="another value"),
        pytest.param({"port": 80}, {"port": 81}, id="another port"),
        pytest.param({"sourceLabels": {"app": "a"}}, {"sourceLabels": {"app": "b"}}, id="other clients"),
        pytest.param({**prefix("/a"), "ignoreUriCase": True}, prefix("/a/b"), id="another idea of case"),
    ],
)
def test_a_match_outside_of_the_roots_is_not(root: dict[str, Any], leaf: dict[str, Any]) -> None:
    assert delegated(route(match=[root]), route(match=[leaf])) is None


def test_every_pair_that_goes_together_is_a_match() -> None:
    taken = delegated(route(match=[prefix("/a"), prefix("/b")]), route(match=[prefix("/a/x"), prefix("/b/x")]))

    assert taken is not None
    assert [it.uri.prefix for it in taken.match if it.uri is not None] == ["/a/x", "/b/x"]


def test_what_the_root_asks_remains_asked() -> None:
    root = {**prefix("/a"), "headers": {"x": {"exact": "1"}}}

    taken = delegated(route(match=[root]), route(match=[{"method": {"exact": "GET"}}]))

    assert taken is not None
    [match] = taken.match
    assert match.uri is not None
    assert (match.uri.prefix, list(match.headers), match.method is not None) == ("/a", ["x"], True)


def test_what_the_root_says_counts_before_what_the_delegate_says() -> None:
    root = route(name="root", timeout="1s", headers={"request": {"set": {"a": "root"}}})
    leaf = route(name="leaf", timeout="9s", headers={"request": {"set": {"a": "leaf", "b": "leaf"}}})

    taken = delegated(root, leaf)

    assert taken is not None
    assert (taken.name, taken.timeout) == ("root-leaf", "1s")
    assert taken.headers.request.set == {"a": "root", "b": "leaf"}
