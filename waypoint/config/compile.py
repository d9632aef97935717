"""Compile resources and the registry into a Snapshot with its problems.

Pure: the same objects in any order give an equal snapshot. Problems stay local: a rule with an unsupported filter or
field answers 500, an unresolved reference answers 500 for its share, and everything else goes live. Problems name the
object, the field and the remedy.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from l4.config.documents import Problem
from l4.config.resources import Resource, Resources
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.index import Update
from l4.discovery.labels import tells_client
from l4.discovery.objects import Gateway
from l4.discovery.registry import Moved, Registry
from l4.discovery.waypoints import serves
from l4.discovery.workload import Service, Workload
from policies.attributes import ClusterName
from policies.path_normalization import PathNormalization
from waypoint.config.attached_policies import AttachedPolicies
from waypoint.config.attached_routes import KINDS, AttachedRoutes
from waypoint.config.clusters import ClusterConfigs
from waypoint.config.compile_options import CompileOptions
from waypoint.config.gateway_api.attach import Parents
from waypoint.config.gateway_api.conditions import gateway_status
from waypoint.config.gateway_api.reference_grant import ReferenceGrant
from waypoint.config.gateway_api.references import References
from waypoint.config.istio.authorization_policy import Authorizations
from waypoint.config.istio.destination_rule import DestinationRule, DestinationRules
from waypoint.config.istio.envoy_only import EnvoyOnly, EnvoyOnlyPolicies
from waypoint.config.istio.locality import place_of
from waypoint.config.istio.mesh_config import Authorizers, ConfigMap
from waypoint.config.istio.mesh_providers import MeshProviders
from waypoint.config.istio.request_authentication import Authentications, RequestAuthentication
from waypoint.config.istio.security_targets import SecurityTargets
from waypoint.config.istio.telemetry import Telemetries, Telemetry
from waypoint.config.istio.virtual_service import VirtualService
from waypoint.config.istio.virtual_services import VirtualServices
from waypoint.config.mentions import Mentions
from waypoint.config.ours.direct_policy import Targets
from waypoint.config.places import Place, Places, Security
from waypoint.config.reach import Reach
from waypoint.config.snapshot import ClusterConfig, Destination, Snapshot
from waypoint.config.status import ConditionsStatus, PolicyStatus, RouteStatus
from waypoint.config.version import Version

K = TypeVar("K")
V = TypeVar("V")


class Compilation:
    """A snapshot, with the state to update its endpoints without compiling routes and policies again. See `compile`."""

    def __init__(
        self,
        resources: Resources,
        registry: Registry,
        options: CompileOptions,
        problems: Iterable[Problem] = (),
        mentions: Mentions | None = None,
    ) -> None:
        """`problems` are those found earlier on the way. `mentions` are those of `resources`, for several waypoints."""
        gateway, normalization = options.gateway, PathNormalization(options.path_normalization)
        place = place_of(registry, gateway, options.own_ip)
        reach = Reach(gateway[0])
        rules = DestinationRules(resources.of(DestinationRule), registry, reach, place.labels)
        clusters = ClusterConfigs(gateway, rules, place, options.leaving)
        grants = resources.of(ReferenceGrant)
        references = References(registry, clusters, grants, requires_grants=options.requires_reference_grants)
        gateways = {(it.key.namespace, it.key.name) for it in resources.of(Gateway)}
        routes = AttachedRoutes(Parents(registry, clusters, gateways, gateway), references, reach, normalization)
        for kind in KINDS:
            for resource in resources.of(kind):
                routes.add(resource)
        services = ((service, clusters.is_ours(service)) for service in registry.services.values())
        targets = Targets(resources, services, gateway, routes.statuses)
        policies = AttachedPolicies(resources, registry, targets, gateway, normalization, clusters)
        virtual = VirtualServices(resources.of(VirtualService), registry, clusters, reach, normalization)
        rules.tell_unheard([service for service in registry.services.values() if clusters.is_ours(service)])
        ours = [it for it in resources.of(Gateway) if (it.key.namespace, it.key.name) == gateway]
        classes = frozenset(it.value.spec.gateway_class_name for it in ours)
        security_targets = SecurityTargets(registry, clusters.is_ours, gateway, classes)
        authorizers = Authorizers(resources.of(ConfigMap), registry, clusters)
        security = Security(
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
        telemetries = Telemetries(
            resources.of(Telemetry),
            security_targets,
            gateway[0],
            MeshProviders(resources.of(ConfigMap)),
            options.tag_variables,
        )
        places = Places(clusters, routes, policies, virtual, security, telemetries, options.leaving)
        destinations: dict[Place, Destination] = {}
        for service in registry.services.values():
            if clusters.is_ours(service):
                destinations.update(places.of_service(service, registry))
        for where, it in places.of_workloads(registry):
            destinations.setdefault(where, it)
        envoy_only = EnvoyOnlyPolicies(resources.of(EnvoyOnly), security_targets)
        self._finders: tuple[_Finder, ...] = (
            envoy_only,
            *(routes, rules, clusters, policies, virtual, security, authorizers, telemetries),
        )
        own_problems = self._found()
        snapshot = Snapshot(
            version="",
            registry=registry,
            destinations=destinations,
            clusters={name: policies.cluster(config) for name, config in clusters.by_name.items()},
            problems=tuple(sorted({*problems, *registry.problems, *own_problems})),
            statuses=(
                *map(gateway_status, ours),
                *_sorted(*routes.statuses, *policies.statuses, *security.statuses, *envoy_only.statuses),
            ),
            policies=policies.attached,
            has_gateway=bool(ours),
            tells_client=_tells_client(ours, registry, gateway),
            is_carried=_is_carried(registry, options.own_ip),
            path_normalization=options.path_normalization,
            collectors=telemetries.collectors,
            is_open=any(
                clusters.is_ours(it) and (it.hostname.startswith("*") or it.networks)
                for it in registry.services.values()
            ),
        )
        self._gateway = gateway
        self._own_ip = options.own_ip
        self._clusters = clusters
        self._places = places
        self._mentions = mentions or Mentions(resources)
        self._problems = own_problems
        self._direct = frozenset(it.uid for it in registry.workloads.values() if clusters.is_ours(it))
        self._tells_clients_apart = virtual.has_source_labels
        self._version = Version(snapshot)
        self.snapshot = replace(snapshot, version=self._version.name(snapshot))

    def follow(self, update: Update, problems: Iterable[Problem]) -> Snapshot | None:
        """Return the snapshot after endpoints were added, removed or changed. `problems` are the current ones of
        earlier steps.

        Returns None if more than clusters is affected, so that everything must be compiled again.
        """
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
        for it in map(self._places.policies.cluster, configs):
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
            if self._places.virtual.speaks_of(after):
                return False
            new = self._places.of_service(after, registry)
            if not new.keys().isdisjoint(self.snapshot.destinations.keys() - changes.gone.keys()):
                return False
            changes.new.update(new)
            configs = map(self._places.policies.cluster, self._clusters.made_of(after))
            changes.clusters.update((it.name, it) for it in configs)
        changes.has_other_problems = True
        return True

    def _found(self) -> frozenset[Problem]:
        return frozenset(problem for it in self._finders for problem in it.problems)

    def _does_more(self, moved: Moved[Workload]) -> bool:
        """Whether a workload is more than an endpoint.

        It may be a pod of the waypoint, be called by its own address, or have labels by which clients are matched.
        """
        before, after = moved.before, moved.after
        its = [it for it in (before, after) if it is not None]
        if any(serves(it, self._gateway) or self._own_ip in it.addresses for it in its):
            return True
        if not self._tells_clients_apart and not any(map(self._clusters.is_ours, its)):
            return False
        return before is None or after is None or _ready(before) != _ready(after)

    def _may_reach_others_directly(self, update: Update) -> bool:
        """Whether ports or addresses of a directly called workload may have changed."""
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
    """The changes of a snapshot. A removed cluster is None."""

    clusters: dict[ClusterName, ClusterConfig | None] = field(default_factory=dict)
    gone: dict[Place, Destination] = field(default_factory=dict)
    new: dict[Place, Destination] = field(default_factory=dict)
    has_other_problems: bool = False


def _with(known: Mapping[K, V], changes: Mapping[K, V | None]) -> Mapping[K, V]:
    """Return `known` with the changes applied. None removes an entry."""
    if not changes:
        return known
    return {name: it for name, it in {**known, **changes}.items() if it is not None}


def _uids_at(addresses: Iterable[str], registry: Registry) -> Iterator[str]:
    for it in map(registry.workload_at, addresses):
        if it is not None:
            yield it.uid


def _differs_in_endpoints(moved: Moved[Service]) -> bool:
    """Whether the services differ only in what affects clusters alone."""
    before, after = moved.before, moved.after
    if before is None or after is None:
        return False
    its = replace(before, endpoints=after.endpoints, names=after.names, nearness=after.nearness)
    return replace(its, traffic_distribution=after.traffic_distribution) == after


def _ready(workload: Workload) -> Workload:
    """Return the workload without its health."""
    return replace(workload, is_healthy=True, is_leaving=False)


def _tells_client(ours: Iterable[Resource[Gateway]], registry: Registry, gateway: tuple[str, str]) -> bool:
    """Whether an annotation of the Gateway or its pods enables x-forwarded-client-cert, as in Istio."""
    pods = (it for it in registry.workloads.values() if serves(it, gateway))
    return any(it.tells_client for it in pods) or any(tells_client(it.value.metadata.annotations) for it in ours)


def _is_carried(registry: Registry, own_ip: str | None) -> bool:
    own = registry.workload_at(own_ip) if own_ip else None
    return own is not None and own.is_redirected


class _Finder(Protocol):
    @property
    def problems(self) -> Iterable[Problem]: ...


_Status = RouteStatus | PolicyStatus | ConditionsStatus


def _sorted(*statuses: _Status) -> list[_Status]:
    return sorted(statuses, key=lambda it: it.key)
