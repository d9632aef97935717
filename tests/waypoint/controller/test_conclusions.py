from l4.config.documents import ObjectKey
from l4.config.settings import Settings
from l4.config.source import Documents
from tests.kit.snapshots import documents_of
from tests.waypoint.controller.objects import MESH, gateway, policy, route, service
from waypoint.config.pipeline import Pipeline
from waypoint.config.status import AncestorStatus, Condition, ConditionsStatus, ParentStatus, PolicyStatus, RouteStatus
from waypoint.controller.concluding import READ
from waypoint.controller.conclusions import Conclusion, conclude, differing, our_gateways

ROUTE = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "shop", "front")
FAULT = ObjectKey("pywaypoint.dev", "FaultPolicy", "shop", "slow")
ACCESS = ObjectKey("security.istio.io", "AuthorizationPolicy", "shop", "access")


def concluded(*texts: str) -> dict[ObjectKey, Conclusion]:
    documents = sorted(documents_of(case=MESH + "".join(texts)), key=lambda it: it.key)
    serving = our_gateways("example.com/ours", "default")
    pipeline = Pipeline(None, Settings(), kinds=READ, serving=serving)
    return conclude(pipeline.compile(Documents(tuple(documents))))


def named(part: ParentStatus | AncestorStatus) -> str:
    return str(dict(part.ref)["name"])


def parents(wanted: Conclusion) -> dict[str, Condition]:
    assert isinstance(wanted, RouteStatus)
    assert len({named(it) for it in wanted.parents}) == len(wanted.parents)
    return {named(it): it.conditions[0] for it in wanted.parents}


def ancestors(wanted: Conclusion) -> dict[str, Condition]:
    assert isinstance(wanted, PolicyStatus)
    return {named(it): it.condition for it in wanted.ancestors}


def bound(wanted: dict[ObjectKey, Conclusion], name: str = "cart", namespace: str = "shop") -> tuple[bool, str] | None:
    found = wanted.get(ObjectKey("", "Service", namespace, name))
    if found is None:
        return None
    assert isinstance(found, ConditionsStatus)
    (only,) = found.conditions
    assert only.type == "istio.io/WaypointBound"
    return only.is_true, only.reason


def test_a_route_has_an_entry_for_each_parent_of_any_waypoint_of_ours() -> None:
    both = gateway("east"), gateway("west"), gateway("foreign", "theirs")
    services = service("cart", "east"), service("till", "west"), service("away", "foreign"), service("alone")

    wanted = concluded(*both, *services, route("front", "name: cart", "name: till", "name: away", "name: alone"))

    assert {name: it.is_true for name, it in parents(wanted[ROUTE]).items()} == {"cart": True, "till": True}


def test_nothing_is_concluded_for_waypoints_of_others() -> None:
    wanted = concluded(
        gateway("foreign", "theirs"),
        gateway("older", more=", labels: {istio.io/rev: old}"),
        gateway("leaving", more=", deletionTimestamp: '2026-01-01T00:00:00Z'"),
        *(service(f"of-{it}", it) for it in ("foreign", "older", "leaving", "missing")),
        *(route(f"to-{it}", f"name: of-{it}") for it in ("foreign", "older", "leaving", "missing")),
    )

    assert wanted == {}


def test_a_policy_is_told_of_each_target_and_of_a_missing_one_once() -> None:
    wanted = concluded(
        *(gateway("east"), gateway("west"), service("cart", "east"), service("till", "west")),
        policy("slow", "cart", "till", "nowhere"),
        policy("access", "cart", "nowhere", kind="AuthorizationPolicy"),
    )

    found = {name: (it.is_true, it.reason) for name, it in ancestors(wanted[FAULT]).items()}
    assert found == {
        "cart": (True, "Accepted"),
        "till": (True, "Accepted"),
        "nowhere": (False, "TargetNotFound"),
    }
    access = wanted[ACCESS]
    assert isinstance(access, ConditionsStatus)
    assert [(it.type, it.is_true, it.reason) for it in access.conditions] == [
        ("WaypointAccepted", False, "TargetNotFound")
    ]
    assert access.generation == 4


def test_a_policy_for_a_waypoint_to_which_nothing_is_bound_is_told_too() -> None:
    target = policy("slow", "east").replace(
        "group: '', kind: Service", "group: gateway.networking.k8s.io, kind: Gateway"
    )

    wanted = concluded(gateway("east"), target)

    assert ancestors(wanted[FAULT])["east"].is_true


def test_a_service_is_bound_by_its_own_label_or_its_namespaces() -> None:
    namespace = (
        "\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/use-waypoint: east}}}"
    )

    wanted = concluded(gateway("east"), gateway("west"), namespace, service("cart"), service("till", "west"))

    assert bound(wanted, "cart") == bound(wanted, "till") == (True, "WaypointAccepted")


def test_a_service_is_told_why_it_is_not_bound() -> None:
    labels = ", labels: {istio.io/waypoint-for: workload}"

    assert bound(concluded(gateway("east", address=""), service("cart", "east"))) == (False, "WaypointIsNotReady")
    assert bound(concluded(gateway("east", more=labels), service("cart", "east"))) == (False, "UnsupportedTrafficType")
    other = concluded(gateway("east"), service("cart", "east", namespace="other"))
    assert bound(other, namespace="other") == (False, "AttachmentDenied")


def canary(name: str, weight: str, *, of: str) -> str:
    annotations = f"annotations: {{istio.io/use-waypoint-canary-weight: '{weight}'}}"
    return service("cart", of).replace("labels: {", f"{annotations}, labels: {{istio.io/use-waypoint-canary: {name}, ")


def test_a_route_is_told_by_the_waypoint_that_is_only_the_canary_of_anothers() -> None:
    both = gateway("east"), gateway("foreign", "theirs")

    wanted = concluded(*both, canary("east", "0", of="foreign"), route("front", "name: cart"))

    assert parents(wanted[ROUTE])["cart"].is_true
    assert bound(wanted) is None  # that of the first waypoint's controller


def test_a_service_is_told_why_its_canary_gets_nothing() -> None:
    wanted = concluded(gateway("east"), gateway("west"), canary("west", "101", of="east"))

    (only,) = wanted[ObjectKey("", "Service", "shop", "cart")].conditions  # type: ignore[union-attr]
    assert (only.is_true, only.reason) == (True, "WaypointAccepted")
    assert "Canary waypoint not attached: canary shop/west is not used: its weight" in only.message
    assert bound(concluded(gateway("east"), gateway("west"), canary("west", "1", of="east"))) == (
        True,
        "WaypointAccepted",
    )


def test_a_policy_for_a_route_is_told_by_the_waypoint_that_accepts_the_route() -> None:
    both = gateway("east"), gateway("west"), service("cart", "west")
    refused = route("front", "name: east").replace(
        "group: '', kind: Service", "group: gateway.networking.k8s.io, kind: Gateway"
    )
    accepted = refused.replace("parentRefs: [", "parentRefs: [{group: '', kind: Service, name: cart}, ")
    assert accepted != refused
    target = policy("slow", "front").replace(
        "group: '', kind: Service", "group: gateway.networking.k8s.io, kind: HTTPRoute"
    )

    assert ancestors(concluded(*both, accepted, target)[FAULT])["front"].is_true
    only = ancestors(concluded(*both, refused, target)[FAULT])["front"]
    assert (only.is_true, only.reason) == (False, "Invalid")


def test_of_two_findings_for_one_parent_the_worse_is_told() -> None:
    """A ServiceEntry with several hosts is several services, and one parent."""
    entry = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cart, namespace: shop, labels: {istio.io/use-waypoint: east}}
spec: {hosts: [a.example.com, b.example.com], ports: [{name: db, number: 90, protocol: TCP}], resolution: DNS}
"""
    text = route("front", "name: cart").replace(
        "group: '', kind: Service", "group: networking.istio.io, kind: ServiceEntry"
    )

    (found,) = parents(concluded(gateway("east"), entry, text)[ROUTE]).values()

    assert not found.is_true


def test_what_differs_is_what_came_changed_or_went() -> None:
    one = concluded(gateway("east"), service("cart", "east"), service("till", "east"))
    other = concluded(gateway("east"), gateway("west"), service("cart", "west"), service("new", "east"))

    assert {it.name for it in differing(one, other)} == {"cart", "till", "new"}
    assert differing(one, dict(one)) == set()
