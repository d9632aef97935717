"""Several VirtualServices for one host, and those that pass requests on to others."""

from typing import Any

import pytest
import yaml

from l4.config.codes import Code, DocumentCode
from policies.attributes import Identity, Peer, RequestHead
from policies.route import Rule
from tests.kit.snapshots import compiled, documents_of
from tests.waypoint.config.test_reach import MESH
from waypoint.config.codes import ConfigCode
from waypoint.config.snapshot import Snapshot

REVIEWS = "reviews.default.svc.cluster.local"
ALL = {"directResponse": {"status": 200}}


def on(path: str, status: int = 200, **more: Any) -> dict[str, Any]:
    return {"match": [{"uri": {"prefix": path}}], "directResponse": {"status": status}, **more}


def virtual(name: str, *http: dict[str, Any], hosts: tuple[str, ...] = ("reviews",), **more: Any) -> str:
    """Of two, that whose name comes first counts as the older one."""
    kind = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}
    namespace = more.pop("namespace", "default")
    spec = {**({"hosts": list(hosts)} if hosts else {}), "http": list(http), **more}
    return yaml.dump({**kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})


def snapshot_of(*objects: str) -> Snapshot:
    return compiled(documents_of(mesh=MESH, case="---\n".join(objects)))


def taken(snapshot: Snapshot, path: str, method: str = "GET", client: str = "default") -> str:
    """Which rule a request falls under, without the kind."""
    peer = Peer(Identity("cluster.local", client, "client"), "10.0.0.9", 40000)
    head = RequestHead(method.encode(), b"reviews", path.encode(), b"", [])
    rule = snapshot.destinations[REVIEWS, 80].routes_for(peer).find(head, peer)
    return str(rule.source).removeprefix("VirtualService default/") if rule is not None else "404"


def problems(snapshot: Snapshot) -> list[tuple[str, str, Code]]:
    return [(it.subject.removeprefix("VirtualService default/"), it.field, it.code) for it in snapshot.problems]


# -- several -------------------------------------------------------------------------------------------------------


def test_those_for_one_host_are_merged_and_what_takes_everything_comes_last() -> None:
    snapshot = snapshot_of(virtual("a", on("/a"), ALL), virtual("b", on("/b"), ALL), virtual("c", on("/c")))

    assert [taken(snapshot, it) for it in ("/a", "/b", "/c", "/d")] == [
        "a http[0]",
        "b http[0]",
        "c http[0]",
        "a http[1]",
    ]
    assert problems(snapshot) == []


def test_the_older_one_is_asked_first() -> None:
    snapshot = snapshot_of(virtual("b", on("/x")), virtual("a", on("/x"), on("/x/y")))

    assert taken(snapshot, "/x/y") == "a http[0]"


def test_what_stands_behind_a_rule_for_everything_stays_behind_it() -> None:
    snapshot = snapshot_of(virtual("a", ALL, on("/a")), virtual("b", on("/b")))

    assert [taken(snapshot, it) for it in ("/a", "/b")] == ["a http[0]", "b http[0]"]


def test_one_for_the_host_itself_is_asked_before_one_for_many() -> None:
    snapshot = snapshot_of(virtual("a", on("/x"), hosts=("*.cluster.local",)), virtual("b", on("/x")))

    assert taken(snapshot, "/x") == "b http[0]"


def test_an_object_that_names_a_host_in_two_ways_counts_once() -> None:
    snapshot = snapshot_of(virtual("a", on("/x"), hosts=("reviews", REVIEWS, "*.cluster.local")))

    assert len(snapshot.destinations[REVIEWS, 80].routes.routes) == 1


# -- delegates -----------------------------------------------------------------------------------------------------

ROOT = {"match": [{"uri": {"prefix": "/shop"}}], "delegate": {"name": "shop"}}


def leaf(*http: dict[str, Any], **more: Any) -> str:
    return virtual("shop", *http, hosts=(), **more)


def test_a_delegate_takes_what_is_passed_on_to_it_and_nothing_else() -> None:
    rules = (on("/shop/cart"), {"match": [{"method": {"exact": "PUT"}}], "directResponse": {"status": 200}})

    snapshot = snapshot_of(virtual("a", ROOT, ALL), leaf(*rules))

    assert taken(snapshot, "/shop/cart") == "shop http[0]"
    assert taken(snapshot, "/shop/x", "PUT") == "shop http[1]"
    assert taken(snapshot, "/x", "PUT") == "a http[1]"
    assert taken(snapshot, "/shop/x") == "a http[1]"
    assert problems(snapshot) == []


def test_a_delegate_that_asks_for_something_else_has_no_effect_and_is_told() -> None:
    snapshot = snapshot_of(virtual("a", ROOT, ALL), leaf(on("/elsewhere"), on("/shop/x")))

    assert [taken(snapshot, it) for it in ("/elsewhere", "/shop/x")] == ["a http[1]", "shop http[1]"]
    assert problems(snapshot) == [("shop", "spec.http[0].match", ConfigCode.RULE_NEVER_MATCHES)]


def test_what_the_root_says_of_a_request_counts_before_the_delegate() -> None:
    route = {
        "route": [{"destination": {"host": "reviews"}}],
        "headers": {"request": {"set": {"a": "leaf", "b": "leaf"}}},
    }
    root = {**ROOT, "timeout": "2s", "headers": {"request": {"set": {"a": "root"}}}}

    snapshot = snapshot_of(virtual("a", root), leaf({**route, "timeout": "9s"}))

    (rule,) = [it.rule for it in snapshot.destinations[REVIEWS, 80].routes.routes]
    assert rule.timeouts.request == 2.0
    assert rule.filters.request_edit is not None
    assert dict(rule.filters.request_edit.set) == {b"a": b"root", b"b": b"leaf"}


@pytest.mark.parametrize(
    ("delegate", "code"),
    [
        (virtual("other", ALL, hosts=()), ConfigCode.BACKEND_NOT_FOUND),
        (leaf(ALL, namespace="other"), ConfigCode.BACKEND_NOT_FOUND),
        (leaf(ALL, exportTo=["elsewhere"]), ConfigCode.REFERENCE_NOT_PERMITTED),
        (leaf({"match": [], "delegate": {"name": "shop"}}), ConfigCode.FILTER_INVALID),
        (virtual("shop", ALL, hosts=("nowhere.example",)), ConfigCode.BACKEND_NOT_FOUND),
    ],
)
def test_requests_for_a_delegate_that_cannot_be_used_go_nowhere_else(delegate: str, code: Code) -> None:
    snapshot = snapshot_of(virtual("a", ROOT, ALL), delegate)

    head = RequestHead(b"GET", b"reviews", b"/shop/x", b"", [])
    rule = snapshot.destinations[REVIEWS, 80].routes.find(head)
    assert rule is not None
    assert [backend.cluster for backend in rule.backends] == [None]
    assert rule.backends[0].missing_status == 500
    assert code in {it for _, _, it in problems(snapshot)}


def test_a_delegate_of_another_namespace_names_its_own_services() -> None:
    root = {"delegate": {"name": "shop", "namespace": "other"}}
    route = {"route": [{"destination": {"host": "reviews"}}]}

    snapshot = snapshot_of(virtual("a", root), leaf(route, namespace="other"))

    assert [it.sentence for it in snapshot.problems] == [
        "no Service and no ServiceEntry has the host reviews.other.svc; its share is answered with 503"
    ]


def test_a_delegate_that_nobody_uses_is_told() -> None:
    assert problems(snapshot_of(leaf(ALL))) == [("shop", "spec.hosts", ConfigCode.PARENT_NOT_FOUND)]


# -- what one rule says --------------------------------------------------------------------------------------------

ROUTE = {"route": [{"destination": {"host": "reviews"}}]}


def only_rule(rule: dict[str, Any]) -> Rule:
    (route,) = snapshot_of(virtual("a", {**ROUTE, **rule})).destinations[REVIEWS, 80].routes.routes
    return route.rule


@pytest.mark.parametrize(
    ("said", "share"),
    [
        ({}, 1.0),
        ({"mirrorPercentage": {"value": 0.5}}, 0.005),
        ({"mirrorPercent": 5}, 0.05),
        ({"mirror_percent": 5}, 0.05),
        ({"mirrorPercent": 5, "mirrorPercentage": {"value": 7}}, 0.07),
        ({"mirrorPercent": 0}, None),
    ],
)
def test_a_share_of_requests_is_mirrored_however_it_is_said(said: dict[str, Any], share: float | None) -> None:
    mirrors = only_rule({"mirror": {"host": "reviews"}, **said}).filters.policies

    assert [it.numerator / it.denominator for it in mirrors] == ([share] if share is not None else [])


@pytest.mark.parametrize(
    ("retries", "attempts", "avoids_tried"),
    [
        ({}, 0, True),
        ({"attempts": 0}, 0, True),
        ({"attempts": 3}, 3, True),
        ({"attempts": 3, "retryIgnorePreviousHosts": False}, 3, False),
    ],
)
def test_retries_are_as_many_as_are_said_and_avoid_endpoints_unless_told(
    retries: dict[str, Any], attempts: int, avoids_tried: bool
) -> None:
    retry = only_rule({"retries": retries}).retry

    assert retry is not None
    assert (retry.attempts, retry.avoids_tried) == (attempts, avoids_tried)


def test_the_name_of_a_match_stands_behind_that_of_its_route() -> None:
    rule = only_rule({"name": "first", "match": [{"name": "second"}]})

    assert rule.name == "first.second"


def test_what_has_no_effect_is_told() -> None:
    rule = {**ROUTE, "match": [{"statPrefix": "a"}], "retries": {"attempts": 1, "retryRemoteLocalities": True}}

    assert problems(snapshot_of(virtual("a", rule))) == [
        ("a", "spec.http[0].match[0].statPrefix", DocumentCode.NOT_CARRIED_OUT),
        ("a", "spec.http[0].retries.retryRemoteLocalities", DocumentCode.NOT_CARRIED_OUT),
    ]
