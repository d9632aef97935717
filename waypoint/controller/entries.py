"""Our part of the status of a route, a policy or a Service, beside the parts of other controllers. Pure.

The Gateway API's lists (`parents` of routes, `ancestors` of policies) belong to several controllers, and the API server
replaces them as a whole: the entries of others are kept as they are. Istio's objects have one list of conditions.
A condition keeps its `lastTransitionTime` as long as its status stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from waypoint.config.status import Condition, ConditionsStatus, PolicyStatus, RouteStatus
from waypoint.controller.conclusions import BOUND
from waypoint.controller.status import dumped, has_all

_MAX_MESSAGE = 32768
_OUR_TYPES = frozenset({"WaypointAccepted", BOUND})

Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """A list of entries in a status: its field, the field of an entry that refers to an object, and how many entries
    the API server takes."""

    field: str
    ref: str
    most: int


PARENTS, ANCESTORS = Form("parents", "parentRef", 32), Form("ancestors", "ancestorRef", 16)
_FORMS = {
    "HTTPRoute": PARENTS,
    "GRPCRoute": PARENTS,
    "TCPRoute": PARENTS,
    "TLSRoute": PARENTS,
    "RateLimitPolicy": ANCESTORS,
    "FaultPolicy": ANCESTORS,
    "XBackendTrafficPolicy": ANCESTORS,
}


def form_of(kind: str) -> Form | None:
    """The kind's form, or None if its status has conditions as a whole."""
    return _FORMS.get(kind)


def entries(
    form: Form, wanted: RouteStatus | PolicyStatus | None, status: Given, controller_name: str, now: str
) -> list[Given] | None:
    """The new list, or None when it stays as it is. Nothing wanted takes our entries away."""
    known: Sequence[Given] = status.get(form.field) or []
    ours = [it for it in known if it.get("controllerName") == controller_name]
    others = [it for it in known if it.get("controllerName") != controller_name]
    made: list[Given] = []
    for ref, conditions in _parts(wanted):
        before = next((it for it in ours if it.get(form.ref) == ref), {})
        own = _dumped(conditions, wanted.generation if wanted else 0, before.get("conditions") or [], now)
        made.append({form.ref: ref, "controllerName": controller_name, "conditions": own})
    made = made[: max(form.most - len(others), 0)]
    return None if _are_same(ours, made) else [*others, *made]


def conditions(wanted: ConditionsStatus | None, status: Given, now: str) -> list[dict[str, Any]] | None:
    """The conditions that are to be ours, or None when they stay as they are."""
    known: Sequence[Given] = status.get("conditions") or []
    if wanted is None:
        return [] if our_conditions(status) else None
    made = _dumped(wanted.conditions, wanted.generation, known, now)
    return None if has_all(known, made) else made


def our_conditions(status: Given) -> list[Given]:
    """The conditions of our types, whoever wrote them."""
    return [it for it in status.get("conditions") or () if it.get("type") in _OUR_TYPES]


def _parts(wanted: RouteStatus | PolicyStatus | None) -> list[tuple[dict[str, Any], tuple[Condition, ...]]]:
    match wanted:
        case RouteStatus():
            return [(_plain(it.ref), it.conditions) for it in wanted.parents]
        case PolicyStatus():
            return [(_plain(it.ref), (it.condition,)) for it in wanted.ancestors]
        case None:
            return []


def _plain(ref: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return {name: value for name, value in ref if value is not None}


def _dumped(conditions: Sequence[Condition], generation: int, known: Sequence[Given], now: str) -> list[dict[str, Any]]:
    """The API server leaves out a generation of 0, which Services have."""
    short = [replace(it, message=it.message[:_MAX_MESSAGE]) for it in conditions]
    made = dumped(short, generation, known, now)
    return made if generation else [{name: it[name] for name in it if name != "observedGeneration"} for it in made]


def _are_same(known: Sequence[Given], wanted: Sequence[Given]) -> bool:
    """The order of entries means nothing, and the API server may have another one."""
    return len(known) == len(wanted) and all(it in known for it in wanted)
