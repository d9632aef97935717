"""The destinations of a waypoint, by place: an address or a hostname, and a port.

A destination is a port of a service that is bound to this waypoint, or of a workload that is called by its own address.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from l4.config.documents import Problem
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol, Follows, Service, ServicePort, Workload
from policies.authorizer import CustomAuthorizers
from policies.host_pattern import HostPattern
from policies.opaque import OpaqueRoute, OpaqueTable
from policies.route import Match, OrderedTable, Route, RouteTable, Rule, Table, WeightedBackend
from waypoint.config.attached_policies import AttachedPolicies
from waypoint.config.attached_routes import AttachedRoutes
from waypoint.config.clusters import ClusterConfigs
from waypoint.config.istio.authorization_policy import Authorizations
from waypoint.config.istio.request_authentication import Authentications
from waypoint.config.istio.telemetry import Telemetries
from waypoint.config.istio.virtual_services import VirtualServices
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination
from waypoint.config.status import ConditionsStatus

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Security:
    """Security policies of destinations."""

    tokens: Authentications
    authorizations: Authorizations

    @property
    def problems(self) -> Iterable[Problem]:
        return (*self.tokens.problems, *self.authorizations.problems)

    @property
    def statuses(self) -> Iterable[ConditionsStatus]:
        return (*self.tokens.statuses, *self.authorizations.statuses)

    def on(self, destination: Destination, service: Service | None) -> Destination:
        """Return the destination with security policies. A directly called workload has no service."""
        authentication, authorization = self.tokens.of(service), self.authorizations.of(service)
        if authentication is None and authorization is None:
            return destination
        authorizers = self.authorizations.asked(authorization) if authorization is not None else None
        return replace(
            destination,
            authentication=authentication,
            authorization=authorization,
            authorizers=authorizers,
            policies=(CustomAuthorizers(authorizers),) if authorizers is not None else (),
            opaque_authorization=authorization.for_bytes() if authorization is not None else None,
            late_authorization=authorization.for_those_under_way() if authorization is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Places:
    """Compiles destinations from all their parts. `leaving` are hostnames, see `leaving.py`."""

    clusters: ClusterConfigs
    routes: AttachedRoutes
    policies: AttachedPolicies
    virtual: VirtualServices
    security: Security
    telemetries: Telemetries
    leaving: frozenset[str] = frozenset()

    def of_service(self, service: Service, registry: Registry) -> dict[Place, Destination]:
        """Return the ports of a service that is bound to this waypoint, at each of their places."""
        by_port = {port.port: self._with_policies(self._destination(service, port), service) for port in service.ports}
        if service.hostname in self.leaving:
            by_port = {port: replace(it, is_leaving=True) for port, it in by_port.items()}
        own = (it for it in service.addresses if registry.service_at(it) is service)
        return {(host, port): it for host in (*own, service.hostname) for port, it in by_port.items()}

    def of_workloads(self, registry: Registry) -> Iterator[tuple[Place, Destination]]:
        """Yield workloads that are called by their own address, with all ports that they or their services declare."""
        ports = {
            it.uid: set(it.ports) for it in registry.workloads.values() if self.clusters.is_ours(it) and it.addresses
        }
        for service in registry.services.values() if ports else ():
            for endpoint in service.endpoints:
                if endpoint.workload.uid in ports:
                    ports[endpoint.workload.uid].update(endpoint.ports.values())
        for uid, its in sorted(ports.items()):
            workload = registry.workloads[uid]
            own = tuple(it for it in workload.addresses if registry.workload_at(it) is workload)
            yield from self._direct(workload, own, sorted(its))

    def _with_policies(self, destination: Destination, service: Service | None) -> Destination:
        telemetry = self.telemetries.of(service)
        found = destination if telemetry is None else replace(destination, telemetry=telemetry)
        return self.security.on(found, service)

    def _destination(self, service: Service, port: ServicePort) -> Destination:
        """Compile a port of a service that is bound to this waypoint."""
        cluster = self.clusters.of(service, port)
        default = Rule("default", (WeightedBackend(cluster),))
        http: dict[str | None, list[Route]] = {}
        opaque: dict[str | None, list[OpaqueRoute]] = {}
        for it in self.routes.on(service, port):
            if it.routes:
                http.setdefault(it.consumer, []).extend(it.routes)
            if it.opaque:
                opaque.setdefault(it.consumer, []).extend(it.opaque)
        tables: dict[str | None, Table] = {
            namespace: RouteTable(self.policies.lay_upon(its, service, port))
            for namespace, its in ({None: [Route(Match(), default)]} | http).items()
        }
        for namespace, found in self.virtual.on(service, port, {*http, *opaque}).items():
            if found.http:
                tables[namespace] = OrderedTable(self.policies.lay_upon(found.http, service, port))
            if found.opaque:
                opaque[namespace] = list(found.opaque)
        return Destination(
            service=self.clusters.by_name[cluster].service,
            port=port.port,
            app_protocol=port.app_protocol,
            routes=tables.pop(None),
            opaque=OpaqueTable(opaque.pop(None, [OpaqueRoute("", default)])),
            consumer_routes={namespace: table for namespace, table in tables.items() if namespace},
            consumer_opaque={namespace: OpaqueTable(its) for namespace, its in opaque.items() if namespace},
            addresses=service.addresses,
            hosts=HostPattern(service.hostname) if _looks_up_hosts(service) else None,
        )

    def _direct(
        self, workload: Workload, own: tuple[str, ...], ports: Iterable[int]
    ) -> Iterator[tuple[Place, Destination]]:
        """Compile a workload's own addresses `own`, which no other workload has.

        Routes are attached to services, so none applies, and only the Gateway's policies do. Protocols are detected
        from the first bytes.
        """
        for port in ports:
            rule = Rule("default", (WeightedBackend(self.clusters.direct(workload, port)),))
            destination = Destination(
                service=UNKNOWN_SERVICE,
                port=port,
                app_protocol=AppProtocol.UNKNOWN,
                routes=RouteTable(self.policies.lay_upon([Route(Match(), rule)])),
                opaque=OpaqueTable([OpaqueRoute("", rule)]),
                addresses=workload.addresses,
            )
            guarded = self._with_policies(destination, None)
            yield from (((address, port), guarded) for address in own)


def _looks_up_hosts(service: Service) -> bool:
    return service.followed is not None and service.followed.by is Follows.HOST
