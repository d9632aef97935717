"""Status conditions of routes, policies and Gateways for the API's `status`. The controller writes them.

Only our own parents are reported, under our own controller name, so that Istio's entries are not affected.
`transitions` knows since when a condition holds.
https://gateway-api.sigs.k8s.io/reference/spec/#routestatus
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from l4.config.documents import ObjectKey
from waypoint.config.transitions import Placed, Since, never

CONTROLLER = "pywaypoint.dev/mesh-controller"
"""The controller's name by default. Tools tell it, and cannot know another one."""


@dataclass(frozen=True, slots=True)
class Condition:
    """`type`, `status`, `reason` and `message` of a metav1.Condition."""

    type: str
    is_true: bool
    reason: str
    message: str

    def dump(self, generation: int, since: str) -> dict[str, object]:
        return {
            "type": self.type,
            "status": "True" if self.is_true else "False",
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": generation,
            "lastTransitionTime": since,
        }


@dataclass(frozen=True, slots=True)
class ParentStatus:
    """`ref` is the route's parentRef, without empty fields."""

    ref: tuple[tuple[str, Any], ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class RouteStatus:
    key: ObjectKey
    generation: int
    parents: tuple[ParentStatus, ...]

    def conditions_by_place(self) -> Iterator[Placed]:
        for it in self.parents:
            yield from ((self.key, str(it.ref), condition.type, condition.is_true) for condition in it.conditions)

    def dump(self, since: Since = never) -> dict[str, object]:
        return {
            "parents": [
                {
                    "parentRef": dict(parent.ref),
                    "controllerName": CONTROLLER,
                    "conditions": [
                        it.dump(self.generation, since(self.key, str(parent.ref), it.type)) for it in parent.conditions
                    ],
                }
                for parent in self.parents
            ]
        }


@dataclass(frozen=True, slots=True)
class AncestorStatus:
    """`ref` is the policy's targetRef, without empty fields."""

    ref: tuple[tuple[str, Any], ...]
    condition: Condition


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """Status of one of our own policies. Its ancestors are its targets (GEP-713)."""

    key: ObjectKey
    generation: int
    ancestors: tuple[AncestorStatus, ...]

    def conditions_by_place(self) -> Iterator[Placed]:
        yield from ((self.key, str(it.ref), it.condition.type, it.condition.is_true) for it in self.ancestors)

    def dump(self, since: Since = never) -> dict[str, object]:
        return {
            "ancestors": [
                {
                    "ancestorRef": dict(ancestor.ref),
                    "controllerName": CONTROLLER,
                    "conditions": [
                        ancestor.condition.dump(
                            self.generation, since(self.key, str(ancestor.ref), ancestor.condition.type)
                        )
                    ],
                }
                for ancestor in self.ancestors
            ]
        }


@dataclass(frozen=True, slots=True)
class ConditionsStatus:
    """Status of an object that has conditions as a whole, not per target, as Istio's policies and Services have."""

    key: ObjectKey
    generation: int
    conditions: tuple[Condition, ...]

    def conditions_by_place(self) -> Iterator[Placed]:
        yield from ((self.key, "", condition.type, condition.is_true) for condition in self.conditions)

    def dump(self, since: Since = never) -> dict[str, object]:
        return {"conditions": [it.dump(self.generation, since(self.key, "", it.type)) for it in self.conditions]}


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """`listeners` are their names. No routes attach to a waypoint's listeners, only to the services behind."""

    key: ObjectKey
    generation: int
    conditions: tuple[Condition, ...]
    listeners: tuple[str, ...]

    def conditions_by_place(self) -> Iterator[Placed]:
        yield from ((self.key, "", condition.type, condition.is_true) for condition in self.conditions)

    def dump(self, since: Since = never) -> dict[str, object]:
        conditions = [it.dump(self.generation, since(self.key, "", it.type)) for it in self.conditions]
        resolved = Condition("ResolvedRefs", True, "ResolvedRefs", "a waypoint's listener has no references")
        listener = {
            "attachedRoutes": 0,
            "supportedKinds": [],
            "conditions": [*conditions, resolved.dump(self.generation, since(self.key, "", "Accepted"))],
        }
        return {"conditions": conditions, "listeners": [{"name": name, **listener} for name in self.listeners]}
