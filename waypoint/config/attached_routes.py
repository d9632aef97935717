"""Route objects of the Gateway API, compiled and attached to the services that they name."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from l4.config.documents import Problem
from l4.config.resources import Resource
from l4.discovery.workload import Service, ServicePort
from policies.opaque import OpaqueRoute
from policies.path_normalization import PathNormalization
from policies.route import Route
from waypoint.config.gateway_api.attach import Attachment, Parents
from waypoint.config.gateway_api.conditions import route_status
from waypoint.config.gateway_api.grpc_route import GRPCRoute
from waypoint.config.gateway_api.http_route import HTTPRoute
from waypoint.config.gateway_api.l4_routes import TCPRoute, TLSRoute
from waypoint.config.gateway_api.references import References
from waypoint.config.gateway_api.rules import Rules
from waypoint.config.reach import Reach
from waypoint.config.report import Report
from waypoint.config.status import RouteStatus

KINDS = (HTTPRoute, GRPCRoute, TCPRoute, TLSRoute)


@dataclass(frozen=True, slots=True)
class AttachedRoute:
    """Routes of one object on one parent. `consumer` is the namespace whose clients they are limited to, or None."""

    ports: frozenset[int]
    age: tuple[str, str, str]
    consumer: str | None
    routes: tuple[Route, ...]
    opaque: tuple[OpaqueRoute, ...]


@dataclass
class AttachedRoutes:
    """Compiled and attached routes, by hostname of their service."""

    parents: Parents
    references: References
    reach: Reach
    normalization: PathNormalization
    attached: dict[str, list[AttachedRoute]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    statuses: list[RouteStatus] = field(default_factory=list)

    def add(self, resource: Resource[Any]) -> None:
        """Compile rules only if they are attached to this waypoint, which then reports their problems."""
        report = Report(resource)
        attachments = list(self.parents.of(resource, report))
        if attachments:
            rules = Rules(resource.key, self.references, report, resource.refused, self.normalization)
            routes, opaque = _compiled(rules, resource.value)
            for it in attachments:
                if it.service is not None:
                    self._attach(resource, it, it.service, routes, opaque)
            is_all_dropped = bool(rules.dropped) and len(rules.dropped) == len(resource.value.spec.rules)
            self.statuses.append(route_status(resource, report, attachments, is_all_dropped=is_all_dropped))
        self.problems += report.problems

    def _attach(
        self,
        resource: Resource[Any],
        attachment: Attachment,
        service: Service,
        routes: tuple[Route, ...],
        opaque: tuple[OpaqueRoute, ...],
    ) -> None:
        key = resource.key
        it = AttachedRoute(
            ports=frozenset(port.port for port in attachment.ports),
            age=(resource.value.metadata.creation_timestamp or "", key.namespace, key.name),
            consumer=self.reach.consumer(key.namespace, service),
            routes=routes,
            opaque=opaque,
        )
        self.attached.setdefault(service.hostname, []).append(it)

    def on(self, service: Service, port: ServicePort) -> Iterator[AttachedRoute]:
        """Yield what is attached to a port, oldest first."""
        for it in sorted(self.attached.get(service.hostname, ()), key=lambda it: it.age):
            if port.port in it.ports:
                yield it


def _compiled(rules: Rules, route: object) -> tuple[tuple[Route, ...], tuple[OpaqueRoute, ...]]:
    match route:
        case HTTPRoute():
            return tuple(rules.http(route.spec.rules)), ()
        case GRPCRoute():
            return tuple(rules.grpc(route.spec.rules)), ()
        case TLSRoute():
            return (), tuple(rules.opaque(route.spec.rules, route.spec.hostnames))
        case TCPRoute():
            return (), tuple(rules.opaque(route.spec.rules))
    raise TypeError(route)
