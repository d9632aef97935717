"""VirtualServices of a service: all that name its host, merged as istiod does for gateways.

Objects that name the host itself precede wildcards (`*.example.com`), longer wildcards precede shorter ones, and older
objects precede newer ones. A host without dots is a Service in the object's namespace. `reach` determines the clients
that an object applies to. Routes that match every request come last, in whichever object they are. Gateway API routes
for the same port and clients take precedence: Istio does not define the combination, so it is reported.
https://istio.io/latest/docs/ops/best-practices/traffic-management/#split-virtual-services
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from l4.config.documents import Problem
from l4.config.resources import Resource
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, ServicePort
from policies.opaque import OpaqueRoute
from policies.path_match import PathKind
from policies.path_normalization import BASE, PathNormalization
from policies.route import Match, Route
from waypoint.config.codes import ConfigCode
from waypoint.config.destinations import Destinations
from waypoint.config.istio.virtual_rules import VirtualRules
from waypoint.config.istio.virtual_service import MESH, HTTPMatch, VirtualService
from waypoint.config.reach import Reach
from waypoint.config.report import Report

_EVERYTHING = frozenset({b"/", b""})


@dataclass(slots=True)
class Merged:
    """Merged routes. `http` is in matching order."""

    http: list[Route] = field(default_factory=list)
    opaque: list[OpaqueRoute] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Named:
    """An object, and the position in it that names the host."""

    resource: Resource[VirtualService]
    field: str


class VirtualServices:
    def __init__(
        self,
        resources: Iterable[Resource[VirtualService]],
        registry: Registry,
        clusters: Destinations,
        reach: Reach,
        normalization: PathNormalization = BASE,
    ) -> None:
        """Whether routing depends on labels of clients, which are workloads."""
        self.problems: list[Problem] = []
        self._registry = registry
        self._clusters = clusters
        self._reach = reach
        self._normalization = normalization
        self._exact: dict[str, list[_Named]] = {}
        self._wildcards: list[tuple[str, _Named]] = []
        ordered = sorted(resources, key=lambda it: (it.value.metadata.creation_timestamp, it.key))
        self._delegates = {(it.key.namespace, it.key.name): it for it in ordered if not it.value.spec.hosts}
        for resource in ordered:
            if not resource.value.spec.gateways or MESH in resource.value.spec.gateways:
                self._add(resource)
        self.has_source_labels = any(match.source_labels for it in ordered for match in _matches(it.value))
        """Whether it depends on the labels of clients, which are workloads, what is done with their requests."""
        self._wildcards.sort(key=lambda it: -len(it[0]))
        self._tell_unused(ordered)

    def speaks_of(self, service: Service) -> bool:
        """Whether there is anything that may hold for a service."""
        return next(self._of(service), None) is not None

    def on(self, service: Service, port: ServicePort, taken: Container[str | None]) -> Mapping[str | None, Merged]:
        """Return the routes of a port by namespace of the clients; None is for all clients.

        Clients without a VirtualService are absent. `taken` are the clients with Gateway API routes.
        """
        found: dict[str | None, Merged] = {}
        pieces: dict[str | None, list[tuple[int, Route]]] = {}
        for named in self._of(service):
            resource = named.resource
            report, spec, consumer = Report(resource), resource.value.spec, self._consumer(resource, service)
            if not self._reach.sees(resource.key.namespace, spec.export_to, consumer):
                report.tell("spec.exportTo", self._unseen(service, consumer), ConfigCode.NOT_ENTITLED)
            elif consumer in taken:
                sentence = f"has no effect on port {port.port}: routes of the Gateway API are attached to "
                report.tell(named.field, sentence + service.hostname, ConfigCode.POLICY_CONFLICTED)
            else:
                rules = VirtualRules(
                    resource.key,
                    self._registry,
                    self._clusters,
                    report,
                    port.port,
                    self._delegates,
                    self._normalization,
                    resource.refused,
                )
                merged = found.setdefault(consumer, Merged())
                merged.opaque += [*rules.opaque("tls", spec.tls), *rules.opaque("tcp", spec.tcp)]
                pieces.setdefault(consumer, []).extend(_ranked(rules.http(spec.http)))
            self.problems += report.problems
        for consumer, ranked in pieces.items():
            found[consumer].http = [route for _, route in sorted(ranked, key=lambda it: it[0])]
        return found

    def _consumer(self, resource: Resource[VirtualService], service: Service) -> str | None:
        return self._reach.consumer(resource.key.namespace, service)

    def _unseen(self, service: Service, consumer: str | None) -> str:
        whose = consumer or self._reach.waypoint
        return (
            f"has no effect on {service.hostname}: it is not exported to namespace {whose}, whose proxy would apply it"
        )

    def _add(self, resource: Resource[VirtualService]) -> None:
        for index, host in enumerate(resource.value.spec.hosts):
            named, host = _Named(resource, f"spec.hosts[{index}]"), host.lower()
            own = self._registry.service_named(resource.key.namespace, host) if "." not in host else None
            host = own.hostname if own is not None else host
            if host.startswith("*"):
                self._wildcards.append((host[1:], named))
                continue
            known = self._exact.setdefault(host, [])
            if all(it.resource.key != resource.key for it in known):
                known.append(named)
            if host not in self._registry.services:
                sentence = f"no Service and no ServiceEntry has the host {host}; the routes have no effect there"
                origin, key = resource.origin, str(resource.key)
                self.problems.append(Problem(origin, key, named.field, sentence, ConfigCode.PARENT_NOT_FOUND))

    def _of(self, service: Service) -> Iterator[_Named]:
        """Yield each object once, by its most specific host."""
        told = set()
        below = (named for suffix, named in self._wildcards if service.hostname.endswith(suffix))
        for named in (*self._exact.get(service.hostname, ()), *below):
            if named.resource.key not in told:
                told.add(named.resource.key)
                yield named

    def _tell_unused(self, resources: Iterable[Resource[VirtualService]]) -> None:
        """Report objects without hosts that no other object delegates to."""
        used = {
            (route.delegate.namespace or it.key.namespace, route.delegate.name)
            for it in resources
            for route in it.value.spec.http
            if route.delegate is not None
        }
        for name, it in self._delegates.items():
            if name not in used:
                sentence = "has no hosts, and no VirtualService delegates to it, so it has no effect"
                self.problems.append(
                    Problem(it.origin, str(it.key), "spec.hosts", sentence, ConfigCode.PARENT_NOT_FOUND)
                )


def _matches(value: VirtualService) -> Iterator[HTTPMatch]:
    for route in value.spec.http:
        yield from route.match


def _ranked(routes: Iterable[Route]) -> Iterator[tuple[int, Route]]:
    """Rank an object's routes: those before its catch-all route, the catch-all, and unreachable ones after it."""
    rank = 0
    for route in routes:
        if rank == 1:
            rank = 2
        if rank == 0 and _takes_everything(route.match):
            rank = 1
        yield rank, route


def _takes_everything(match: Match) -> bool:
    path = match.path
    is_any_path = path.kind is PathKind.TEXT_PREFIX and path.value in _EVERYTHING
    return is_any_path and not match.has_conditions and match.source is None
