"""`lastTransitionTime` of conditions is when they became true or false, and not when their words changed."""

from datetime import UTC, datetime

from l4.config.documents import ObjectKey
from tests.kit.snapshots import compiled, documents_of
from tests.waypoint.config.test_reach import MESH, taking
from waypoint.config.dump import dump
from waypoint.config.transitions import NEVER, Transitions

KEY = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "default", "a")
FIRST, LATER = (datetime(2026, 1, day, 3, 4, 5, tzinfo=UTC) for day in (1, 2))


def test_a_condition_keeps_its_time_until_it_is_another() -> None:
    transitions = Transitions()

    transitions.record(transitions.following([(KEY, "", "Accepted", True), (KEY, "", "ResolvedRefs", True)], FIRST))
    transitions.record(transitions.following([(KEY, "", "Accepted", True), (KEY, "", "ResolvedRefs", False)], LATER))

    assert transitions.since(KEY, "", "Accepted") == "2026-01-01T03:04:05Z"
    assert transitions.since(KEY, "", "ResolvedRefs") == "2026-01-02T03:04:05Z"


def test_a_condition_that_is_gone_is_forgotten() -> None:
    transitions = Transitions()

    transitions.record(transitions.following([(KEY, "", "Accepted", True)], FIRST))
    transitions.record(transitions.following([], LATER))

    assert transitions.since(KEY, "", "Accepted") == NEVER


def test_every_condition_that_is_shown_has_the_time_that_was_recorded() -> None:
    kinds = ("HTTPRoute", "RateLimitPolicy", "AuthorizationPolicy")
    snapshot = compiled(documents_of(mesh=MESH, case="---\n".join(taking(kind, 0, "default") for kind in kinds)))
    transitions = Transitions()
    transitions.record(
        transitions.following((it for status in snapshot.statuses for it in status.conditions_by_place()), FIRST)
    )

    shown = [it["lastTransitionTime"] for it in conditions(dump(snapshot, transitions.since)["status"])]

    assert len(snapshot.statuses) == 4
    assert set(shown) == {"2026-01-01T03:04:05Z"}


def conditions(value: object) -> list[dict[str, str]]:
    if isinstance(value, dict):
        return [*value.get("conditions", ()), *(it for below in value.values() for it in conditions(below))]
    return [it for below in value for it in conditions(below)] if isinstance(value, list) else []
