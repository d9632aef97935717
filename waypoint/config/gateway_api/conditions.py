"""Status conditions of routes and Gateways, from the compiler's results."""

from collections.abc import Iterable
from typing import Any

from msgspec import to_builtins

from l4.config.resources import Resource
from l4.discovery.objects import Gateway
from waypoint.config.gateway_api.attach import Attachment
from waypoint.config.report import Report
from waypoint.config.status import Condition, GatewayStatus, ParentStatus, RouteStatus


def route_status(
    resource: Resource[Any], report: Report, attachments: Iterable[Attachment], *, is_all_dropped: bool
) -> RouteStatus:
    """Return the status. A parent that refuses the route has only that condition; others have the route's
    conditions."""
    accepted, *others = report.conditions(is_all_dropped=is_all_dropped)
    parents = tuple(
        ParentStatus(tuple(sorted(to_builtins(it.ref).items())), (it.refusal or accepted, *others))
        for it in attachments
    )
    return RouteStatus(resource.key, resource.value.metadata.generation, parents)


def gateway_status(resource: Resource[Gateway]) -> GatewayStatus:
    """Return the status. Programmed means that clients can find the Gateway, so its status needs an address."""
    gateway = resource.value
    has_address = bool(gateway.status.addresses)
    hint = "status.addresses has an address" if has_address else "status.addresses has no address yet"
    conditions = (
        Condition("Accepted", True, "Accepted", "the Gateway is served"),
        Condition("Programmed", has_address, "Programmed" if has_address else "AddressNotAssigned", hint),
    )
    listeners = tuple(listener.name for listener in gateway.spec.listeners)
    return GatewayStatus(resource.key, gateway.metadata.generation, conditions, listeners)
