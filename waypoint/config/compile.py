"""Resources and registry → a Snapshot and its problems. Pure: the same objects, in any order, give an equal snapshot.

A problem stays where it is: a rule with a filter or field that we don't carry out answers 500, a reference that leads
nowhere answers 500 for its share, and all the rest goes live. Problems say which object, which field, and what to do.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from l4.config.documents import Problem
from l4.config.resources import Resource, Resources
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.index import Update
from l4.discovery.kubernetes import Gateway
from l4.discovery.labels import tells_client
from l4.discovery.registry import Moved, Registry
from l4.discovery.waypoints import serves
from l4.discovery.workload import AppProtocol, Follows, Service, ServicePort, Workload
from policies.attributes import ClusterName
from policies.authorizer import CustomAuthorizers
from policies.host_pattern import HostPattern
from policies.opaque import OpaqueRoute, OpaqueTable
from policies.path_normalization import PathNormalization
from policies.route import Match, OrderedTable, Route, RouteTable, Rule, Table, WeightedBackend
from waypoint.config.attached_policies import AttachedPolicies
from waypoint.config.clusters import ClusterConfigs
from waypoint.config.compile_options import CompileOptions
from waypoint.config.gateway_api.attach import Attachment, Parents
from waypoint.config.gateway_api.conditions import gateway_status, route_status
from waypoint.config.gateway_api.grpc_route import GRPCRoute
from waypoint.config.gateway_api.http_route import HTTPRoute
from waypoint.config.gateway_api.l4_routes import TCPRoute, TLSRoute
from waypoint.config.gateway_api.reference_grant import ReferenceGrant
from waypoint.config.gateway_api.references import References
from waypoint.config.gateway_api.rules import Rules
from waypoint.config.istio.authorization_policy import Authorizations
from waypoint.config.istio.destination_rule import DestinationRule, DestinationRules
from waypoint.config.istio.locality import place_of
from waypoint.config.istio.mesh_config import Authorizers, ConfigMap
from waypoint.config.istio.request_authentication import Authentications, RequestAuthentication
from waypoint.config.istio.security_targets import SecurityTargets
from waypoint.config.istio.virtual_service import VirtualService
from waypoint.config.istio.virtual_services import VirtualServices
from waypoint.config.mentions import Mentions
from waypoint.config.ours.direct_policy import Targets
from waypoint.config.reach import Reach
from waypoint.config.report import Report
from waypoint.config.snapshot import UNKNOWN_SERVICE, ClusterConfig, Destination, Snapshot
from waypoint.config.status import AuthorizationStatus, PolicyStatus, RouteStatus
from waypoint.config.version import Version

Place = tuple[str, int]
"""Where a destination is found: an address or a hostname, and a port."""
K = TypeVar("K")
V = TypeVar("V")
_KINDS = (HTTPRoute, GRPCRoute, TCPRoute, TLSRoute)


class Compilation:
    """A snapshot, and what it takes to follow endpoints without looking at a route or a policy."""

    def __init__(
        self, resources: Resources, registry: Registry, options: CompileOptions, problems: Iterable[Problem] = ()
    ) -> None:
        """`problems` are those found earlier on the way."""
        gateway, normalization = options.gateway, PathNormalization(options.path_normalization)
        place = place_of(registry, gateway, options.own_ip)
        reach = Reach(gateway[0])
        rules = DestinationRules(resources.of(DestinationRule), registry, reach, place.labels)
        clusters = ClusterConfigs(gateway, rules, place)
        grants = resources.of(ReferenceGrant)
        references = References(registry, clusters, grants, requires_grants=options.requires_reference_grants)
        gateways = {(it.key.namespace, it.key.name) for it in resources.of(Gateway)}
        routes = _Routes(Parents(registry, clusters, gateways), references, reach, normalization)
        for kind in _KINDS:
            for resource in resources.of(kind):
                routes.add(resource)
        services = ((service, clusters.is_ours(service)) for service in registry.services.values())
        targets = Targets(resources, services, gateway, (status.key for status in routes.statuses))
        policies = AttachedPolicies(resources, registry, targets, gateway, normalization, clusters)
        virtual = VirtualServices(resources.of(VirtualService), registry, clusters, reach, normalization)
        rules.tell_unheard([service for service in registry.services.values() if clusters.is_ours(service)])
        ours = [it for it in resources.of(Gateway) if (it.key.namespace, it.key.name) == gateway]
        classes = frozenset(it.value.spec.gateway_class_name for it in ours)
        security_targets = SecurityTargets(registry, gateway, classes)
        authorizers = Authorizers(resources.of(ConfigMap), registry, clusters)
        security = _Security(
            Authentications(resources.of(RequestAuthentication), security_targets),
            Authorizations(
                resources.of(AuthorizationPolicy),
                security_targets,
                gateway[0],
                options.trust_domains,
                authorizers.by_name,
                options.denied,
                normalization,
            ),
        )
        made = _Made(clusters, routes, policies, virtual, security)
        destinations: dict[Place, Destination] = {}
        for service in registry.services.values():
            if clusters.is_ours(service):
                destinations.update(made.of(service, registry))
        for key, it in _workloads(registry, clusters, policies):
            destinations.setdefault(key, security.on(it, None))
        self._finders: tuple[_Finder, ...] = (routes, rules, clusters, policies, virtual, security, authorizers)
        own_problems = self._found()
        snapshot = Snapshot(
            version="",
            registry=registry,
            destinations=destinations,
            clusters={name: policies.cluster(config) for name, config in clusters.by_name.items()},
            problems=tuple(sorted({*problems, *registry.problems, *own_problems})),
            statuses=(
                *map(gateway_status, ours),
                *_sorted(*routes.statuses, *policies.statuses, *security.authorizations.statuses),
            ),
            policies=policies.attached,
            has_gateway=bool(ours),
            tells_client=_tells_client(ours, registry, gateway),
            path_normalization=options.path_normalization,
            is_open=any(
                clusters.is_ours(it) and (it.hostname.startswith("*") or it.networks)
                for it in registry.services.values()
            ),
        )
        self._gateway = gateway
        self._own_ip = options.own_ip
        self._clusters = clusters
        self._made = made
        self._mentions = Mentions(resources)
        self._problems = own_problems
        self._direct = frozenset(it.uid for it in registry.workloads.values() if clusters.is_ours(it))
        self._tells_clients_apart = virtual.has_source_labels
        self._version = Version(snapshot)
        self.snapshot = replace(snapshot, version=self._version.name(snapshot))

    def follow(self, update: Update, problems: Iterable[Problem]) -> Snapshot | None:
        """The snapshot after endpoints came, went, or changed, or services that no route and no policy speaks of;
        `problems` are those that were found on the way by now. None where more depends on it, so that all must be
        compiled anew."""
        if any(self._does_more(it) for it in update.workloads) or self._may_reach_others_directly(update):
            return None
        changes = _Changes()
        for service in update.services:
            is_followed = self._follow_endpoints if _differs_in_endpoints(service) else self._follow_service
            if not is_followed(service, update.registry, changes):
                return None
        before = self.snapshot
        others = [Moved(before.clusters.get(name), it) for name, it in changes.clusters.items()]
        self._version.follow(others, update.workloads)
        self._version.follow_destinations(changes.gone, changes.new)
        if changes.has_other_problems:
            self._problems = self._found()
        told = tuple(sorted({*problems, *update.registry.problems, *self._problems}))
        snapshot = replace(
            before,
            registry=update.registry,
            destinations=_with(before.destinations, {**dict.fromkeys(changes.gone), **changes.new}),
            clusters=_with(before.clusters, changes.clusters),
            problems=before.problems if told == before.problems else told,
        )
        self.snapshot = replace(snapshot, version=self._version.name(snapshot))
        return self.snapshot

    def _follow_endpoints(self, moved: Moved[Service], registry: Registry, changes: "_Changes") -> bool:
        assert moved.after is not None
        problems = self._clusters.problems_of(moved.after)
        configs = self._clusters.again(moved.after)
        changes.has_other_problems |= problems != self._clusters.problems_of(moved.after)
        before = self.snapshot.clusters
        for it in map(self._made.policies.cluster, configs):
            if it != before[it.name]:
                changes.clusters[it.name] = it
        return True

    def _follow_service(self, moved: Moved[Service], registry: Registry, changes: "_Changes") -> bool:
        """A service that came, went, or is another one."""
        before, after = moved.before, moved.after
        if any(it.is_entry or self._mentions.may_mean(it.name) for it in (before, after) if it is not None):
            return False
        if before is not None and self._clusters.is_ours(before):
            if any(uid in self._direct for uid in _uids_at(before.addresses, registry)):
                return False
            changes.clusters.update(dict.fromkeys(self._clusters.forget(before)))
            its = {(host, port.port) for host in (*before.addresses, before.hostname) for port in before.ports}
            known = self.snapshot.destinations
            changes.gone.update((it, known[it]) for it in its & known.keys())
        if after is not None and self._clusters.is_ours(after):
            if self._made.virtual.speaks_of(after):
                return False
            new = self._made.of(after, registry)
            if not new.keys().isdisjoint(self.snapshot.destinations.keys() - changes.gone.keys()):
                return False
            changes.new.update(new)
            configs = map(self._made.policies.cluster, self._clusters.made_of(after))
            changes.clusters.update((it.name, it) for it in configs)
        changes.has_other_problems = True
        return True

    def _found(self) -> frozenset[Problem]:
        return frozenset(problem for it in self._finders for problem in it.problems)

    def _does_more(self, moved: Moved[Workload]) -> bool:
        """Whether a workload is more than an endpoint: a pod of the waypoint, one that is called by its own address, or
        one of those by whose labels clients are told apart."""
        before, after = moved.before, moved.after
        its = [it for it in (before, after) if it is not None]
        if any(serves(it, self._gateway) or self._own_ip in it.addresses for it in its):
            return True
        is_as_ready = before is not None and after is not None and _ready(before) == _ready(after)
        is_called = any(map(self._clusters.is_ours, its))
        return (self._tells_clients_apart or is_called) and not is_as_ready

    def _may_reach_others_directly(self, update: Update) -> bool:
        """Whether a workload that is called by its own address may have other ports or addresses now."""
        if not self._direct:
            return False
        before, after = self.snapshot.registry, update.registry
        for address in update.addresses:
            was, now = before.workload_at(address), after.workload_at(address)
            uids = {it.uid for it in (was, now) if it is not None}
            if (was is None or now is None or was.uid != now.uid) and not self._direct.isdisjoint(uids):
                return True
        for moved in update.services:
            had, has = (
                {it.workload.uid: it.ports for it in service.endpoints} if service is not None else {}
                for service in (moved.before, moved.after)
            )
            if any(uid in self._direct and had.get(uid) != has.get(uid) for uid in had.keys() | has.keys()):
                return True
        return False


@dataclass(slots=True)
class _Changes:
    """What is another in a snapshot; None for clusters that are no more."""

    clusters: dict[ClusterName, ClusterConfig | None] = field(default_factory=dict)
    gone: dict[Place, Destination] = field(default_factory=dict)
    new: dict[Place, Destination] = field(default_factory=dict)
    has_other_problems: bool = False


def _with(known: Mapping[K, V], changes: Mapping[K, V | None]) -> Mapping[K, V]:
    """None for what is no more."""
    if not changes:
        return known
    return {name: it for name, it in {**known, **changes}.items() if it is not None}


def _uids_at(addresses: Iterable[str], registry: Registry) -> Iterator[str]:
    for it in map(registry.workload_at, addresses):
        if it is not None:
            yield it.uid


def _differs_in_endpoints(moved: Moved[Service]) -> bool:
    """And in nothing else that more than clusters are made of."""
    before, after = moved.before, moved.after
    if before is None or after is None:
        return False
    its = replace(before, endpoints=after.endpoints, names=after.names, traffic_distribution=after.traffic_distribution)
    return its == after


def _ready(workload: Workload) -> Workload:
    """But for its health."""
    return replace(workload, is_healthy=True, is_leaving=False)


def _tells_client(ours: Iterable[Resource[Gateway]], registry: Registry, gateway: tuple[str, str]) -> bool:
    """By an annotation of the Gateway, or of its pods, as Istio has it."""
    pods = (it for it in registry.workloads.values() if serves(it, gateway))
    return any(it.tells_client for it in pods) or any(tells_client(it.value.metadata.annotations) for it in ours)


class _Finder(Protocol):
    @property
    def problems(self) -> Iterable[Problem]: ...


@dataclass(frozen=True, slots=True)
class _Security:
    tokens: Authentications
    authorizations: Authorizations

    @property
    def problems(self) -> Iterable[Problem]:
        return (*self.tokens.problems, *self.authorizations.problems)

    def on(self, destination: Destination, service: Service | None) -> Destination:
        """The destination, guarded; a workload that is called by its own address has no service."""
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
class _Attached:
    """The routes of one object on one of its parents. `consumer` is the namespace whose clients alone they are for."""

    ports: frozenset[int]
    age: tuple[str, str, str]
    consumer: str | None
    routes: tuple[Route, ...]
    opaque: tuple[OpaqueRoute, ...]


@dataclass
class _Routes:
    """Route objects, compiled and attached; by the hostname of their service."""

    parents: Parents
    references: References
    reach: Reach
    normalization: PathNormalization
    attached: dict[str, list[_Attached]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    statuses: list[RouteStatus] = field(default_factory=list)

    def add(self, resource: Resource[Any]) -> None:
        """Rules are compiled only where they count: what is wrong with them is told by the waypoint they are for."""
        report = Report(resource)
        attachments = list(self.parents.of(resource, report))
        if attachments:
            rules = Rules(resource.key, self.references, report, resource.refused, self.normalization)
            routes, opaque = _compiled(rules, resource.value)
            for it in attachments:
                self._attach(resource, it, routes, opaque)
            is_all_dropped = bool(rules.dropped) and len(rules.dropped) == len(resource.value.spec.rules)
            self.statuses.append(route_status(resource, report, attachments, is_all_dropped=is_all_dropped))
        self.problems += report.problems

    def _attach(
        self,
        resource: Resource[Any],
        attachment: Attachment,
        routes: tuple[Route, ...],
        opaque: tuple[OpaqueRoute, ...],
    ) -> None:
        key, service = resource.key, attachment.service
        it = _Attached(
            ports=frozenset(port.port for port in attachment.ports),
            age=(resource.value.metadata.creation_timestamp or "", key.namespace, key.name),
            consumer=self.reach.consumer(key.namespace, service),
            routes=routes,
            opaque=opaque,
        )
        self.attached.setdefault(service.hostname, []).append(it)

    def on(self, service: Service, port: ServicePort) -> Iterator[_Attached]:
        """What is attached to a port, the oldest first."""
        for it in sorted(self.attached.get(service.hostname, ()), key=lambda it: it.age):
            if port.port in it.ports:
                yield it


@dataclass(frozen=True, slots=True)
class _Made:
    """All that destinations are made of."""

    clusters: ClusterConfigs
    routes: _Routes
    policies: AttachedPolicies
    virtual: VirtualServices
    security: _Security

    def of(self, service: Service, registry: Registry) -> dict[Place, Destination]:
        """The ports of a service that is bound to this waypoint, wherever they are found."""
        by_port = {
            port.port: self.security.on(
                _destination(service, port, self.clusters, self.routes, self.policies, self.virtual), service
            )
            for port in service.ports
        }
        own = (it for it in service.addresses if registry.service_at(it) is service)
        return {(host, port): it for host in (*own, service.hostname) for port, it in by_port.items()}


_Status = RouteStatus | PolicyStatus | AuthorizationStatus


def _sorted(*statuses: _Status) -> list[_Status]:
    return sorted(statuses, key=lambda it: it.key)


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


def _destination(
    service: Service,
    port: ServicePort,
    clusters: ClusterConfigs,
    routes: _Routes,
    policies: AttachedPolicies,
    virtual: VirtualServices,
) -> Destination:
    """A port of a service that is bound to this waypoint."""
    cluster = clusters.of(service, port)
    default = Rule("default", (WeightedBackend(cluster),))
    http: dict[str | None, list[Route]] = {}
    opaque: dict[str | None, list[OpaqueRoute]] = {}
    for it in routes.on(service, port):
        if it.routes:
            http.setdefault(it.consumer, []).extend(it.routes)
        if it.opaque:
            opaque.setdefault(it.consumer, []).extend(it.opaque)
    tables: dict[str | None, Table] = {
        namespace: RouteTable(policies.lay_upon(its, service, port))
        for namespace, its in ({None: [Route(Match(), default)]} | http).items()
    }
    for namespace, found in virtual.on(service, port, {*http, *opaque}).items():
        if found.http:
            tables[namespace] = OrderedTable(policies.lay_upon(found.http, service, port))
        if found.opaque:
            opaque[namespace] = list(found.opaque)
    return Destination(
        service=clusters.by_name[cluster].service,
        port=port.port,
        app_protocol=port.app_protocol,
        routes=tables.pop(None),
        opaque=OpaqueTable(opaque.pop(None, [OpaqueRoute("", default)])),
        consumer_routes={namespace: table for namespace, table in tables.items() if namespace},
        consumer_opaque={namespace: OpaqueTable(its) for namespace, its in opaque.items() if namespace},
        addresses=service.addresses,
        hosts=HostPattern(service.hostname) if _looks_up_hosts(service) else None,
    )


def _looks_up_hosts(service: Service) -> bool:
    return service.followed is not None and service.followed.by is Follows.HOST


def _workloads(
    registry: Registry, clusters: ClusterConfigs, policies: AttachedPolicies
) -> Iterator[tuple[tuple[str, int], Destination]]:
    """Workloads that are called by their own address, with every port that they or their services declare."""
    ports = {it.uid: set(it.ports) for it in registry.workloads.values() if clusters.is_ours(it) and it.addresses}
    for service in registry.services.values() if ports else ():
        for endpoint in service.endpoints:
            if endpoint.workload.uid in ports:
                ports[endpoint.workload.uid].update(endpoint.ports.values())
    for uid, its in sorted(ports.items()):
        workload = registry.workloads[uid]
        own = tuple(it for it in workload.addresses if registry.workload_at(it) is workload)
        yield from _direct(workload, own, sorted(its), clusters, policies)


def _direct(
    workload: Workload, own: tuple[str, ...], ports: Iterable[int], clusters: ClusterConfigs, policies: AttachedPolicies
) -> Iterator[tuple[tuple[str, int], Destination]]:
    """Routes are attached to services, so none applies, and of policies only the Gateway's; what a port carries is
    found out from its first bytes. `own` are the addresses that are no other workload's."""
    for port in ports:
        rule = Rule("default", (WeightedBackend(clusters.direct(workload, port)),))
        destination = Destination(
            service=UNKNOWN_SERVICE,
            port=port,
            app_protocol=AppProtocol.UNKNOWN,
            routes=RouteTable(policies.lay_upon([Route(Match(), rule)])),
            opaque=OpaqueTable([OpaqueRoute("", rule)]),
            addresses=workload.addresses,
        )
        yield from (((address, port), destination) for address in own)
