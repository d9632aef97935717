from typing import Any

from waypoint.ask.differing import as_text, differences


def dumped(path: str, *, endpoint: str = "10.0.0.1:80", address: str = "10.96.0.1", **clusters: Any) -> dict[str, Any]:
    destination = {
        "service": "app.default.svc.cluster.local",
        "protocol": "http",
        "routes": [{"path": path, "rule": "0"}],
    }
    return {
        "version": path,
        "destinations": {f"{address}:80": destination, "app.default.svc.cluster.local:80": destination},
        "clusters": {"app": {"endpoints": [{"address": endpoint}]}} | clusters,
        "problems": [],
    }


def test_addresses_endpoints_and_versions_do_not_count() -> None:
    assert differences(dumped("PREFIX /"), dumped("PREFIX /", endpoint="10.0.0.2:80", address="10.96.0.9")) == []


def test_a_changed_route_is_one_difference_of_its_service() -> None:
    (found,) = differences(dumped("PREFIX /a"), dumped("PREFIX /b"))

    assert (found.section, found.name, found.change) == (
        "destinations",
        "app.default.svc.cluster.local:80",
        "changed",
    )
    assert "\n-- path: PREFIX /a\n+- path: PREFIX /b\n" in as_text([found], "waypoint", "in these files")


def test_what_only_one_side_has_is_added_or_removed() -> None:
    more = dumped("PREFIX /", other={"endpoints": [], "timeout": 1})

    assert [it.change for it in differences(dumped("PREFIX /"), more)] == ["added"]
    assert [it.change for it in differences(more, dumped("PREFIX /"))] == ["removed"]
    assert "+timeout: 1" in as_text(differences(dumped("PREFIX /"), more), "waypoint", "in these files")


def test_problems_are_compared_without_their_place() -> None:
    one, other = dumped("PREFIX /"), dumped("PREFIX /")
    one["problems"] = ["a.yaml:1: HTTPRoute default/app: bad"]
    other["problems"] = ["b.yaml:7: HTTPRoute default/app: bad", "b.yaml:9: HTTPRoute default/web: worse"]

    (found,) = differences(one, other)

    assert as_text([found], "waypoint", "in these files") == "+ problem: HTTPRoute default/web: worse"
