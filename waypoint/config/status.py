"""What the API's `status` would say of routes, policies and Gateways: conditions, computed here, written by others.

We speak only of parents that are ours, under a controller name of our own, so that Istio's entries beside it stay
Istio's. When a condition last changed is known to whoever writes it down, not here.
https://gateway-api.sigs.k8s.io/reference/spec/#routestatus
"""

from dataclasses import dataclass
from typing import Any

from l4.config.documents import ObjectKey

CONTROLLER = "pywaypoint.dev/waypoint"


@dataclass(frozen=True, slots=True)
class Condition:
    """`type`, `status`, `reason` and `message` of a metav1.Condition; when it changed is for whoever writes it."""

    type: str
    is_true: bool
    reason: str
    message: str

    def dump(self, generation: int) -> dict[str, object]:
        return {
            "type": self.type,
            "status": "True" if self.is_true else "False",
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": generation,
        }


@dataclass(frozen=True, slots=True)
class ParentStatus:
    """`ref` is the parentRef as the route has it, without what is empty."""

    ref: tuple[tuple[str, Any], ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class RouteStatus:
    key: ObjectKey
    generation: int
    parents: tuple[ParentStatus, ...]

    def dump(self) -> dict[str, object]:
        return {
            "parents": [
                {
                    "parentRef": dict(parent.ref),
                    "controllerName": CONTROLLER,
                    "conditions": [condition.dump(self.generation) for condition in parent.conditions],
                }
                for parent in self.parents
            ]
        }


@dataclass(frozen=True, slots=True)
class AncestorStatus:
    """`ref` is the targetRef as the policy has it, without what is empty."""

    ref: tuple[tuple[str, Any], ...]
    condition: Condition


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """Of a policy of our own. Its ancestors are its targets (GEP-713)."""

    key: ObjectKey
    generation: int
    ancestors: tuple[AncestorStatus, ...]

    def dump(self) -> dict[str, object]:
        return {
            "ancestors": [
                {
                    "ancestorRef": dict(ancestor.ref),
                    "controllerName": CONTROLLER,
                    "conditions": [ancestor.condition.dump(self.generation)],
                }
                for ancestor in self.ancestors
            ]
        }


@dataclass(frozen=True, slots=True)
class AuthorizationStatus:
    """Of an AuthorizationPolicy: Istio's objects have their conditions on their own, not by target."""

    key: ObjectKey
    generation: int
    conditions: tuple[Condition, ...]

    def dump(self) -> dict[str, object]:
        return {"conditions": [condition.dump(self.generation) for condition in self.conditions]}


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """`listeners` are their names; to a waypoint's listeners no route attaches, but to services behind them."""

    key: ObjectKey
    generation: int
    conditions: tuple[Condition, ...]
    listeners: tuple[str, ...]

    def dump(self) -> dict[str, object]:
        conditions = [condition.dump(self.generation) for condition in self.conditions]
        resolved = Condition("ResolvedRefs", True, "ResolvedRefs", "a waypoint's listener refers to nothing")
        listener = {
            "attachedRoutes": 0,
            "supportedKinds": [],
            "conditions": [*conditions, resolved.dump(self.generation)],
        }
        return {"conditions": conditions, "listeners": [{"name": name, **listener} for name in self.listeners]}
