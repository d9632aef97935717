"""Resources and registry → a Snapshot and its problems. Pure: the same objects, in any order, give an equal snapshot.

A problem stays where it is: a rule with a filter or field that we don't carry out answers 500, a reference that leads
nowhere answers 500 for its share, and all the rest goes live. Problems say which object, which field, and what to do.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from msgspec import UNSET

from l4.config.documents import Problem
from l4.config.resources import Resource, Resources, locate
from l4.discovery.kubernetes import Gateway
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, ServicePort
from policies.attributes import ClusterName
from policies.filters import NO_FILTERS, Filters
from policies.matching import Exact, Regex, StringMatch
from policies.opaque import OpaqueTable
from policies.rewrite import HeaderEdit
from policies.route import FieldMatch, Match, PathKind, PathMatch, Route, RouteTable, Rule, WeightedBackend
from policies.timeout import NO_TIMEOUTS, Timeouts
from waypoint.config import gateway_api as api
from waypoint.config.clusters import ClusterConfigs
from waypoint.config.http_route import HTTPRoute, HTTPRouteMatch, HTTPRouteRule
from waypoint.config.snapshot import Destination, Snapshot

_PATH_KINDS = {"Exact": PathKind.EXACT, "PathPrefix": PathKind.PREFIX, "RegularExpression": PathKind.REGEX}
_FILTERS = frozenset({"RequestHeaderModifier", "ResponseHeaderModifier"})
_UNRESOLVED = (WeightedBackend(None),)


def compile(
    resources: Resources, registry: Registry, *, gateway: tuple[str, str], problems: Iterable[Problem] = ()
) -> Snapshot:
    """What the waypoint of `gateway` (namespace, name) is to do; `problems` are those found earlier on the way."""
    work = _Compiler(registry, gateway, [*problems, *registry.problems])
    tables = work.attach(resources.of(HTTPRoute))
    for service in registry.services.values():
        if work.clusters.is_ours(service):
            for port in service.ports:
                work.serve(service, port, tables)
    has_gateway = any((it.key.namespace, it.key.name) == gateway for it in resources.of(Gateway))
    snapshot = Snapshot(
        version="",
        registry=registry,
        destinations=work.destinations,
        clusters=work.clusters.by_name,
        problems=tuple(sorted(set(work.problems))),
        has_gateway=has_gateway,
    )
    return replace(snapshot, version=_version(snapshot))


@dataclass(frozen=True, slots=True)
class _Attached:
    """A compiled HTTPRoute on one of its parents."""

    port: int | None
    age: tuple[str, str, str]
    routes: tuple[Route, ...]


class _Compiler:
    def __init__(self, registry: Registry, gateway: tuple[str, str], problems: list[Problem]) -> None:
        self.destinations: dict[tuple[str, int], Destination] = {}
        self.clusters = ClusterConfigs(gateway)
        self.problems = problems
        self._registry = registry
        self._gateway = gateway
        self._services = {(it.namespace, it.name): it for it in registry.services.values()}

    # -- services --------------------------------------------------------------------------------------------------

    def serve(self, service: Service, port: ServicePort, attached: dict[str, list[_Attached]]) -> None:
        """A port of a service that is bound to this waypoint."""
        cluster = self.clusters.of(service, port)
        routes = [
            route
            for it in sorted(attached.get(service.hostname, ()), key=lambda it: it.age)
            if it.port in {None, port.port}
            for route in it.routes
        ]
        if not routes:
            routes = [Route(Match(), Rule("default", (WeightedBackend(cluster),)))]
        config = self.clusters.by_name[cluster]
        opaque = OpaqueTable(tcp=Rule("default", (WeightedBackend(cluster),)))
        destination = Destination(config.service, port.port, port.app_protocol, RouteTable(routes), opaque)
        for address in (*service.addresses, service.hostname):
            self.destinations[address, port.port] = destination

    # -- routes ----------------------------------------------------------------------------------------------------

    def attach(self, resources: Iterable[Resource[HTTPRoute]]) -> dict[str, list[_Attached]]:
        """Compiled routes by the hostname of the service that they are attached to."""
        attached: dict[str, list[_Attached]] = {}
        for resource in resources:
            parents = list(self._parents(resource))
            if not parents:
                continue
            routes = tuple(self._routes(resource))
            key = resource.key
            age = (resource.value.metadata.creation_timestamp or "", key.namespace, key.name)
            for service, port in parents:
                attached.setdefault(service.hostname, []).append(_Attached(port, age, routes))
        return attached

    def _parents(self, resource: Resource[HTTPRoute]) -> Iterator[tuple[Service, int | None]]:
        """Services of this waypoint; what is attached to those of others is for their waypoints to carry out."""
        namespace = resource.key.namespace
        for index, ref in enumerate(resource.value.spec.parent_refs):
            if (ref.group, ref.kind) != ("", "Service"):
                continue
            field = f"spec.parentRefs[{index}]"
            parent_namespace = ref.namespace or namespace
            service = self._services.get((parent_namespace, ref.name))
            if service is None:
                self._tell(
                    resource, field, f"there is no Service {parent_namespace}/{ref.name}; the route has no effect"
                )
            elif not self.clusters.is_ours(service):
                continue
            elif namespace not in {parent_namespace, self._gateway[0]}:
                self._tell(resource, field, "a route in another namespace than its Service is not applied yet")
            elif ref.port is None and ref.section_name is None:
                yield service, None
            elif (port := _parent_port(service, ref)) is not None:
                yield service, port.port
            else:
                wanted = " ".join(str(it) for it in (ref.section_name, ref.port) if it is not None)
                self._tell(resource, field, f"Service {service.namespace}/{service.name} has no port {wanted}")

    def _routes(self, resource: Resource[HTTPRoute]) -> Iterator[Route]:
        for index, rule in enumerate(resource.value.spec.rules):
            compiled = self._rule(resource, index, rule)
            for match in rule.matches or (HTTPRouteMatch(),):
                yield Route(_match(match), compiled)

    def _rule(self, resource: Resource[HTTPRoute], index: int, rule: HTTPRouteRule) -> Rule:
        field = f"spec.rules[{index}]"
        key = resource.key
        name = rule.name or f"{key.namespace}.{key.name}.{index}"
        fields = (("retry", rule.retry), ("sessionPersistence", rule.session_persistence))
        for it in (it for it, value in fields if value is not UNSET):
            self._tell(resource, f"{field}.{it}", "is not carried out yet; the rest of the rule is")
        # Only a filter that is missing changes what a request means; the API asks for 500 there, and nowhere else.
        if not self._are_supported(resource, f"{field}.filters", rule.filters):
            return Rule(name, _UNRESOLVED)
        backends = tuple(
            self._backend(resource, f"{field}.backendRefs[{number}]", ref)
            for number, ref in enumerate(rule.backend_refs)
        )
        return Rule(
            name=name,
            backends=backends,
            filters=_filters(rule.filters),
            timeouts=_timeouts(rule.timeouts),
        )

    def _backend(self, resource: Resource[HTTPRoute], field: str, ref: api.BackendRef) -> WeightedBackend:
        cluster = self._referenced(resource, field, ref)
        if not self._are_supported(resource, f"{field}.filters", ref.filters):
            cluster = None
        return WeightedBackend(
            cluster=cluster,
            weight=ref.weight,
            filters=_filters(ref.filters),
        )

    def _referenced(self, resource: Resource[HTTPRoute], field: str, ref: api.BackendRef) -> ClusterName | None:
        if (ref.group, ref.kind) != ("", "Service"):
            self._tell(resource, f"{field}.kind", f"{ref.group}/{ref.kind} is no kind of backend that is known here")
            return None
        namespace = ref.namespace or resource.key.namespace
        service = self._services.get((namespace, ref.name))
        if service is None:
            self._tell(resource, f"{field}.name", f"there is no Service {namespace}/{ref.name}; its share answers 500")
            return None
        port = next((port for port in service.ports if port.port == ref.port), None)
        if port is None:
            ports = ", ".join(str(port.port) for port in service.ports) or "none"
            sentence = f"Service {namespace}/{ref.name} has no port {ref.port}, but {ports}; its share answers 500"
            self._tell(resource, f"{field}.port", sentence if ref.port else f"is missing; the Service has {ports}")
            return None
        return self.clusters.of(service, port)

    def _are_supported(self, resource: Resource[HTTPRoute], field: str, filters: tuple[api.Filter, ...]) -> bool:
        unknown = [(number, it.type) for number, it in enumerate(filters) if it.type not in _FILTERS]
        for number, kind in unknown:
            self._tell(resource, f"{field}[{number}]", f"{kind} is not carried out yet; requests for it answer 500")
        return not unknown

    def _tell(self, resource: Resource[HTTPRoute], field: str, sentence: str) -> None:
        self.problems.append(Problem(resource.origin, str(resource.key), field, sentence))


def located(problem: Problem) -> Problem:
    """The problem with its field's own line. Reads the file, so it is for whoever shows the problem."""
    return replace(problem, origin=locate(problem.origin, problem.field)) if problem.field else problem


def _parent_port(service: Service, ref: api.ParentRef) -> ServicePort | None:
    """The port that a parentRef names by number, by its name as `sectionName`, or by both."""
    for port in service.ports:
        if ref.port in {None, port.port} and ref.section_name in {None, port.name}:
            return port
    return None


def _match(match: HTTPRouteMatch) -> Match:
    regex = Regex.parse(match.path.value) if match.path.type == "RegularExpression" else None
    return Match(
        path=PathMatch(_PATH_KINDS[match.path.type], match.path.value.encode(), regex),
        method=match.method.encode() if match.method else None,
        headers=tuple(_first_of_each(match.headers, lower=True)),
        query=tuple(_first_of_each(match.query_params, lower=False)),
    )


def _first_of_each(matches: Iterable[api.HeaderMatch | api.QueryParamMatch], *, lower: bool) -> Iterator[FieldMatch]:
    """Of several matches for one name only the first counts, says the API."""
    seen: set[str] = set()
    for match in matches:
        name = match.name.lower() if lower else match.name
        if name not in seen:
            seen.add(name)
            yield FieldMatch(name.encode(), _string_match(match.type, match.value))


def _string_match(kind: str, value: str) -> StringMatch:
    return Regex.parse(value) if kind == "RegularExpression" else Exact(value.encode())


def _timeouts(timeouts: api.Timeouts) -> Timeouts:
    """Without configured retries the time of one attempt is the time of the whole, as in Istio."""
    if timeouts.request is None and timeouts.backend_request is None:
        return NO_TIMEOUTS
    request = api.parse_duration(timeouts.request) if timeouts.request is not None else None
    attempt = api.parse_duration(timeouts.backend_request) if timeouts.backend_request is not None else None
    return Timeouts(request if attempt is None else attempt, attempt)


def _filters(filters: tuple[api.Filter, ...]) -> Filters:
    if not filters:
        return NO_FILTERS
    return Filters(
        request_edit=_edit(filters, "request_header_modifier"),
        response_edit=_edit(filters, "response_header_modifier"),
    )


def _edit(filters: tuple[api.Filter, ...], field: str) -> HeaderEdit | None:
    """All modifiers of one direction as one edit; None when there is none."""
    modifiers: list[api.HeaderModifier] = [it for it in (getattr(f, field) for f in filters) if it is not None]
    if not modifiers:
        return None
    changed = [(it.name.lower().encode(), it.value.encode()) for modifier in modifiers for it in modifier.set]
    return HeaderEdit(
        set=tuple(header for header in changed if header[0] != b"host"),
        add=tuple((it.name.lower().encode(), it.value.encode()) for modifier in modifiers for it in modifier.add),
        remove=tuple(sorted(name.lower().encode() for modifier in modifiers for name in modifier.remove)),
        authority=next((value for name, value in changed if name == b"host"), None),
    )


def _version(snapshot: Snapshot) -> str:
    """A short name for what the snapshot says; equal snapshots have equal names."""
    digest = hashlib.sha256()
    for part in (sorted(snapshot.destinations.items()), sorted(snapshot.clusters.items()), snapshot.problems):
        digest.update(repr(part).encode())
    for _, workload in sorted(snapshot.registry.workloads.items()):
        labels, annotations = sorted(workload.labels.items()), sorted(workload.annotations.items())
        digest.update(repr((replace(workload, labels={}, annotations={}), labels, annotations)).encode())
    digest.update(repr(snapshot.has_gateway).encode())
    return digest.hexdigest()[:12]
