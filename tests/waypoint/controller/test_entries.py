from typing import Any

from l4.config.documents import ObjectKey
from waypoint.config.status import (
    AncestorStatus,
    Condition,
    ConditionsStatus,
    ParentStatus,
    PolicyStatus,
    RouteStatus,
)
from waypoint.controller.entries import ANCESTORS, PARENTS, conditions, entries

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
OURS, OTHERS = "example.com/ours", "example.com/others"
ROUTE = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "shop", "front")
POLICY = ObjectKey("pywaypoint.dev", "FaultPolicy", "shop", "slow")
SERVICE = ObjectKey("", "Service", "shop", "cart")
WELL = Condition("Accepted", True, "Accepted", "the route is live")
REFUSED = Condition("Accepted", False, "NoMatchingParent", "there is no port 81")
BOUND = ConditionsStatus(SERVICE, 0, (Condition("istio.io/WaypointBound", True, "WaypointAccepted", "bound"),))


def ref(name: str) -> tuple[tuple[str, Any], ...]:
    return ("group", ""), ("kind", "Service"), ("name", name), ("namespace", None)


def route(*parents: tuple[str, Condition], generation: int = 1) -> RouteStatus:
    return RouteStatus(ROUTE, generation, tuple(ParentStatus(ref(name), (it,)) for name, it in parents))


def theirs(name: str) -> dict[str, Any]:
    return {"parentRef": {"name": name}, "controllerName": OTHERS, "conditions": []}


def told(wanted: RouteStatus | None, *known: Any, now: str = NOW) -> Any:
    return entries(PARENTS, wanted, {"parents": list(known)}, OURS, now)


def test_an_entry_names_the_parent_and_has_the_conditions() -> None:
    assert told(route(("cart", WELL))) == [
        {
            "parentRef": {"group": "", "kind": "Service", "name": "cart"},
            "controllerName": OURS,
            "conditions": [
                {
                    "type": "Accepted",
                    "status": "True",
                    "reason": "Accepted",
                    "message": "the route is live",
                    "observedGeneration": 1,
                    "lastTransitionTime": NOW,
                }
            ],
        }
    ]


def test_the_same_is_not_told_twice_in_whatever_order_it_stands() -> None:
    wanted = route(("cart", WELL), ("till", REFUSED))
    known = told(wanted)

    assert told(wanted, *known, now=LATER) is None
    assert told(wanted, known[1], theirs("cart"), known[0], now=LATER) is None


def test_the_time_stays_while_the_status_does() -> None:
    known = told(route(("cart", WELL), ("till", WELL)))

    cart, till = told(route(("cart", WELL), ("till", REFUSED), generation=2), *known, now=LATER)

    assert cart["conditions"][0]["lastTransitionTime"] == NOW
    assert cart["conditions"][0]["observedGeneration"] == 2
    assert till["conditions"][0]["lastTransitionTime"] == LATER


def test_entries_of_others_stay_as_they_are_and_ours_go_when_nothing_is_wanted() -> None:
    known = told(route(("cart", WELL)))

    assert told(route(("till", WELL)), theirs("a"), *known, theirs("b"))[:2] == [theirs("a"), theirs("b")]
    assert told(None, theirs("a"), *known) == [theirs("a")]
    assert told(None, theirs("a")) is None


def test_no_more_entries_are_told_than_the_api_server_takes() -> None:
    targets = tuple(AncestorStatus(ref(f"s{n}"), WELL) for n in range(10))
    others = [{"ancestorRef": {"name": str(n)}, "controllerName": OTHERS, "conditions": []} for n in range(9)]

    found = entries(ANCESTORS, PolicyStatus(POLICY, 1, targets), {"ancestors": others}, OURS, NOW)

    assert found is not None
    assert len(found) == 16
    assert found[:9] == others


def test_a_long_message_is_cut_to_what_the_api_server_takes() -> None:
    ((only,),) = [
        it["conditions"] for it in told(route(("cart", Condition("Accepted", False, "Invalid", "x" * 40000))))
    ]

    assert len(only["message"]) == 32768


def test_conditions_of_other_types_do_not_count() -> None:
    other = {"type": "Other", "status": "True", "reason": "R", "message": "", "lastTransitionTime": NOW}
    made = conditions(BOUND, {"conditions": [other]}, NOW)

    assert made is not None
    assert [it["type"] for it in made] == ["istio.io/WaypointBound"]
    assert conditions(BOUND, {"conditions": [other, *made]}, LATER) is None
    assert conditions(None, {"conditions": [other]}, NOW) is None
    assert conditions(None, {"conditions": [other, *made]}, NOW) == []


def test_the_generation_that_services_lack_is_left_out() -> None:
    (made,) = conditions(BOUND, {}, NOW) or []

    assert "observedGeneration" not in made
