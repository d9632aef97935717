"""What the statuses of routes, policies and Services should say: the compiler's findings for all our waypoints. Pure.

An object may concern several waypoints, and each of them has findings of its own. Of two findings about the same parent
or target, the worse one is told.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from l4.config.documents import ObjectKey
from l4.config.resources import Resource
from l4.discovery.objects import Gateway, GatewayClass, ServiceObject
from l4.discovery.pipeline import Discovered
from l4.discovery.waypoints import Bindings, Refusal, ServiceBinding
from waypoint.config.pipeline import Compiled
from waypoint.config.status import AncestorStatus, Condition, ConditionsStatus, ParentStatus, PolicyStatus, RouteStatus
from waypoint.controller.gateways import REVISION_LABEL

Conclusion = RouteStatus | PolicyStatus | ConditionsStatus
E = TypeVar("E", ParentStatus, AncestorStatus)

BOUND = "istio.io/WaypointBound"
_UNBOUND = {
    Refusal.OTHER_TRAFFIC: "UnsupportedTrafficType",
    Refusal.NOT_ALLOWED: "AttachmentDenied",
    Refusal.NO_ADDRESS: "WaypointIsNotReady",
}
"""istiod's reasons. A Gateway that does not exist belongs to nobody, so nobody tells of it."""


def our_gateways(controller_name: str, revision: str) -> Callable[[Discovered], list[tuple[str, str]]]:
    """Finds the (namespace, name) of the Gateways that the controller is responsible for."""

    def find(known: Discovered) -> list[tuple[str, str]]:
        resources = known.taken.resources
        classes = {it.key.name for it in resources.of(GatewayClass) if it.value.spec.controller_name == controller_name}
        return [_name(it) for it in resources.of(Gateway) if _is_ours(it.value, classes, revision)]

    return find


def conclude(compiled: Compiled) -> dict[ObjectKey, Conclusion]:
    """The statuses that are wanted. `compiled` has a snapshot for each of our Gateways."""
    wanted: dict[ObjectKey, Conclusion] = {}
    for snapshot in compiled.snapshots.values():
        for it in snapshot.statuses:
            if isinstance(it, RouteStatus | PolicyStatus | ConditionsStatus):
                known = wanted.get(it.key)
                wanted[it.key] = _merged([it] if known is None else [known, it])
    bindings = Bindings(compiled.resources)
    for service in compiled.resources.of(ServiceObject):
        binding = bindings.judge_service(service)
        if binding is not None and binding.first.gateway in compiled.snapshots:
            condition = _bound(binding)
            wanted[service.key] = ConditionsStatus(service.key, service.value.metadata.generation, (condition,))
    return wanted


def _is_ours(gateway: Gateway, classes: set[str], revision: str) -> bool:
    its = gateway.metadata
    is_of_revision = its.labels.get(REVISION_LABEL, revision) == revision
    return gateway.spec.gateway_class_name in classes and is_of_revision and its.deletion_timestamp is None


def _name(gateway: Resource[Gateway]) -> tuple[str, str]:
    return gateway.key.namespace, gateway.key.name


def _bound(binding: ServiceBinding) -> Condition:
    first, canary = binding.first, binding.canary
    if first.refusal is not None:
        return Condition(BOUND, False, _UNBOUND[first.refusal], first.sentence)
    sentence = f"Successfully attached to waypoint {'/'.join(first.gateway)}"
    if canary is not None and canary.refusal is not None:
        sentence += f". Canary waypoint not attached: {canary.sentence}"
    return Condition(BOUND, True, "WaypointAccepted", sentence)


def _merged(them: list[Conclusion]) -> Conclusion:
    """One status of several for the same object."""
    first = them[0]
    match first:
        case RouteStatus():
            parents = (parent for it in them if isinstance(it, RouteStatus) for parent in it.parents)
            return RouteStatus(first.key, first.generation, tuple(_worst(parents, lambda it: it.conditions)))
        case PolicyStatus():
            ancestors = (ancestor for it in them if isinstance(it, PolicyStatus) for ancestor in it.ancestors)
            return PolicyStatus(first.key, first.generation, tuple(_worst(ancestors, lambda it: (it.condition,))))
        case ConditionsStatus():
            # What every waypoint finds, such as a missing target, is a part of what the policy's own waypoint finds.
            others = (it for it in them if isinstance(it, ConditionsStatus))
            return max(others, key=lambda it: (_flaws(it.conditions), sum(len(own.message) for own in it.conditions)))


def _worst(them: Iterable[E], conditions_of: Callable[[E], Iterable[Condition]]) -> Iterator[E]:
    by_ref: dict[object, E] = {}
    for it in them:
        known = by_ref.get(it.ref)
        if known is None or _flaws(conditions_of(it)) > _flaws(conditions_of(known)):
            by_ref[it.ref] = it
    yield from by_ref.values()


def _flaws(conditions: Iterable[Condition]) -> int:
    """How many conditions tell of something wrong."""
    return sum(it.is_true is (it.type == "PartiallyInvalid") for it in conditions)


def differing(before: Mapping[ObjectKey, Conclusion], now: Mapping[ObjectKey, Conclusion]) -> set[ObjectKey]:
    """The objects whose wanted status is another one than before."""
    changed = {key for key, it in now.items() if before.get(key) != it}
    return changed | (before.keys() - now.keys())
