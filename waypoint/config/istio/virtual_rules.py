"""Compile the routes of a VirtualService.

Routes are matched in the written order. An unresolved destination answers 503 for its share, as in Istio.
"""

from collections.abc import Container, Iterator, Mapping, Sequence

from l4.config.codes import DocumentCode
from l4.config.documents import ObjectKey
from l4.config.durations import seconds_of
from l4.config.resources import Resource
from l4.discovery.labels import CARRIED
from l4.discovery.registry import Registry
from l4.discovery.workload import Service
from policies.attributes import ClusterName
from policies.filters import NO_FILTERS, DirectResponse, Filters, in_order
from policies.mirror import Mirror
from policies.opaque import OpaqueRoute
from policies.path_normalization import BASE, PathNormalization
from policies.route import Match, Route, Rule, RuleSource, WeightedBackend
from policies.timeout import NO_TIMEOUTS, Timeouts
from waypoint.config.codes import ConfigCode
from waypoint.config.destinations import Destinations
from waypoint.config.istio import virtual_service as api
from waypoint.config.istio.delegates import delegated
from waypoint.config.istio.virtual_actions import (
    Refused,
    body_of,
    cors_of,
    edits_of,
    fault_of,
    redirect_of,
    retry_of,
    rewrite_of,
)
from waypoint.config.istio.virtual_matches import match_of
from waypoint.config.report import Report

_PRECISION = 1_000_000  # resolution of percentages: a ten-thousandth of a percent
_UNAVAILABLE = 503
_NOWHERE = (WeightedBackend(None),)
_ANYWHERE = (api.HTTPRouteDestination(api.Destination("anywhere")),)


Delegates = Mapping[tuple[str, str], Resource[api.VirtualService]]
"""VirtualServices without hosts, by namespace and name."""


class VirtualRules:
    """Compiles the routes of one object for one port of its service."""

    def __init__(
        self,
        key: ObjectKey,
        registry: Registry,
        clusters: Destinations,
        report: Report,
        port: int,
        delegates: Delegates,
        normalization: PathNormalization = BASE,
        refused: Container[tuple[str, int]] = (),
    ) -> None:
        self._key = key
        self._normalization = normalization
        self._registry = registry
        self._clusters = clusters
        self._report = report
        self._port = port
        self._delegates = delegates
        self._refused = refused

    def http(self, routes: tuple[api.HTTPRoute, ...]) -> Iterator[Route]:
        for index, route in enumerate(routes):
            if route.delegate is not None:
                yield from self._delegated(index, route, route.delegate)
            else:
                yield from self._routes(index, route)

    def _routes(self, index: int, route: api.HTTPRoute) -> Iterator[Route]:
        rules: dict[tuple[bytes | None, str], Rule] = {}
        for number, match in enumerate(route.match or (api.HTTPMatch(),)):
            if self._is_for_us(match.gateways, match.port):
                self._tell_without_effect(f"spec.http[{index}].match[{number}]", match)
                prefix = self._replaced_prefix(route, match)
                if (prefix, match.name) not in rules:
                    rules[prefix, match.name] = self._rule(index, route, prefix, match.name)
                yield Route(self._match(match), rules[prefix, match.name])

    def _delegated(self, index: int, root: api.HTTPRoute, to: api.Delegate) -> Iterator[Route]:
        """Yield the delegate's routes. If it is unusable, requests for the root are answered with 500."""
        namespace, field = to.namespace or self._key.namespace, f"spec.http[{index}].delegate"
        resource = self._delegates.get((namespace, to.name))
        if resource is None:
            sentence = (
                f"there is no VirtualService {namespace}/{to.name} without hosts; its requests are answered with 500"
            )
            self._report.tell(field, sentence, ConfigCode.BACKEND_NOT_FOUND)
            yield from self._stopped(index, root)
            return
        exported = resource.value.spec.export_to
        if exported and not {"*", self._key.namespace, "." if namespace == self._key.namespace else "*"} & set(
            exported
        ):
            sentence = f"{resource.key} is not exported to {self._key.namespace}; its requests are answered with 500"
            self._report.tell(field, sentence, ConfigCode.REFERENCE_NOT_PERMITTED)
            yield from self._stopped(index, root)
            return
        report = Report(resource)
        rules = VirtualRules(resource.key, self._registry, self._clusters, report, self._port, {}, self._normalization)
        for number, leaf in enumerate(resource.value.spec.http):
            try:
                route = delegated(root, leaf)
            except ValueError as error:
                sentence = f"contradicts {self._key} spec.http[{index}]: {error}; its requests are answered with 500"
                report.tell(f"spec.http[{number}]", sentence, ConfigCode.FILTER_INVALID)
                yield from rules._stopped(number, api.HTTPRoute(match=leaf.match or root.match, route=_ANYWHERE))
                continue
            if route is None:
                sentence = f"matches none of the requests of {self._key} spec.http[{index}] and has no effect there"
                report.tell(f"spec.http[{number}].match", sentence, ConfigCode.RULE_NEVER_MATCHES)
            elif route.delegate is not None:
                sentence = "a delegate cannot delegate; its requests are answered with 500"
                report.tell(f"spec.http[{number}].delegate", sentence, ConfigCode.FILTER_INVALID)
                yield from rules._stopped(number, route)
            else:
                yield from rules._routes(number, route)
        self._report.problems += report.problems

    def _stopped(self, index: int, route: api.HTTPRoute) -> Iterator[Route]:
        """Keep the route's position, so that its requests do not match later rules."""
        rule = Rule(self._name(index, route.name), _NOWHERE, source=self._source(index, "http"))
        for match in route.match or (api.HTTPMatch(),):
            if self._is_for_us(match.gateways, match.port):
                yield Route(self._match(match), rule)

    def _tell_without_effect(self, field: str, match: api.HTTPMatch) -> None:
        workloads = self._registry.workloads.values()
        unknown = sorted(match.source_labels.keys() - CARRIED)
        if unknown and not all(it.has_all_labels for it in workloads):
            sentence = (
                f"never matches clients in other namespaces than the waypoint's: discovery does not carry their labels "
                f"{', '.join(unknown)}, only {', '.join(sorted(CARRIED))}"
            )
            self._report.tell(f"{field}.sourceLabels", sentence, DocumentCode.NOT_CARRIED_OUT)
        if match.stat_prefix:
            sentence = (
                "has no effect: there are no metrics per route; the access log has the route's name in ROUTE_NAME"
            )
            self._report.tell(f"{field}.statPrefix", sentence, DocumentCode.NOT_CARRIED_OUT)

    def opaque(self, section: str, routes: Sequence[api.TLSRoute | api.TCPRoute]) -> Iterator[OpaqueRoute]:
        for index, route in enumerate(routes):
            field = f"spec.{section}[{index}]"
            is_refused = (section, index) in self._refused
            backends = _NOWHERE if is_refused else tuple(self._of_connections(field, route))
            rule = Rule(self._name(index), backends, source=self._source(index, section))
            for number, match in enumerate(route.match or (api.TCPMatch(),)):
                if match.has_unread:
                    place, sentence = f"{field}.match[{number}]", "only sniHosts, port and gateways are supported here"
                    self._report.tell(place, f"has no effect: {sentence}", DocumentCode.NOT_CARRIED_OUT)
                elif self._is_for_us(match.gateways, match.port):
                    names = match.sni_hosts if isinstance(match, api.TLSMatch) else ("",)
                    yield from (OpaqueRoute("" if host == "*" else host.lower(), rule) for host in names)

    def _of_connections(self, field: str, route: api.TLSRoute | api.TCPRoute) -> Iterator[WeightedBackend]:
        for number, it in enumerate(route.route):
            cluster = self._cluster(f"{field}.route[{number}].destination", it.destination)
            yield WeightedBackend(cluster, _weight(it, route.route))

    def _is_for_us(self, gateways: tuple[str, ...], port: int) -> bool:
        return (not gateways or api.MESH in gateways) and port in {0, self._port}

    def _name(self, index: int, name: str = "") -> str:
        return name or f"{self._key.namespace}.{self._key.name}.{index}"

    def _source(self, index: int, section: str) -> RuleSource:
        return RuleSource(self._key.kind, self._key.namespace, self._key.name, index, section)

    def _match(self, match: api.HTTPMatch) -> Match:
        return match_of(match, self._registry, self._normalization)

    def _replaced_prefix(self, route: api.HTTPRoute, match: api.HTTPMatch) -> bytes | None:
        """Return the matched prefix that a rewrite or redirect replaces, or None for the whole path."""
        replaces_it = route.rewrite is not None or (route.redirect is not None and route.redirect.prefix_rewrite)
        prefix = match.uri.prefix if replaces_it and match.uri is not None else None
        return self._normalization.of_prefix(prefix.encode()) if prefix is not None else None

    # -- rules -----------------------------------------------------------------------------------------------------

    def _rule(self, index: int, route: api.HTTPRoute, prefix: bytes | None, of_match: str = "") -> Rule:
        name = self._name(index, route.name) + (of_match and f".{of_match}")
        try:
            return self._carried_out(index, route, prefix, name)
        except Refused as refused:
            sentence = f"{refused.sentence}; its requests are answered with 500"
            self._report.drop(f"spec.http[{index}].{refused.field}", sentence, ConfigCode.RULE_INVALID)
            return Rule(name, _NOWHERE, source=self._source(index, "http"))

    def _carried_out(self, index: int, route: api.HTTPRoute, prefix: bytes | None, name: str) -> Rule:
        """Raises Refused for text that is not valid in a message."""
        field = f"spec.http[{index}]"
        seconds = seconds_of(route.timeout)
        if route.retries is not None and route.retries.retry_remote_localities:
            sentence = "has no effect: retries use the same endpoints as first attempts; see localityLbSetting"
            self._report.tell(f"{field}.retries.retryRemoteLocalities", sentence, DocumentCode.NOT_CARRIED_OUT)
        return Rule(
            name=name,
            backends=tuple(self._backends(field, route)),
            filters=self._filters(field, route, prefix),
            timeouts=Timeouts(seconds) if seconds is not None else NO_TIMEOUTS,
            retry=retry_of(route.retries) if route.retries is not None else None,
            source=self._source(index, "http"),
        )

    def _backends(self, field: str, route: api.HTTPRoute) -> Iterator[WeightedBackend]:
        for number, it in enumerate(route.route):
            cluster = self._cluster(f"{field}.route[{number}].destination", it.destination)
            edits = edits_of(f"route[{number}].headers", it.headers)
            filters = Filters(*edits) if any(edits) else NO_FILTERS
            yield WeightedBackend(cluster, _weight(it, route.route), filters, _UNAVAILABLE)

    def _filters(self, field: str, route: api.HTTPRoute, prefix: bytes | None) -> Filters:
        rewrite, redirect, direct = route.rewrite, route.redirect, route.direct_response
        request_edit, response_edit = edits_of("headers", route.headers)
        return Filters(
            request_edit=request_edit,
            response_edit=response_edit,
            rewrite=rewrite_of(rewrite, prefix) if rewrite is not None else None,
            redirect=redirect_of(redirect, prefix) if redirect is not None else None,
            direct=DirectResponse(direct.status, body_of(direct.body)) if direct is not None else None,
            policies=in_order(self._policies(field, route)),
        )

    def _policies(self, field: str, route: api.HTTPRoute) -> Iterator[object]:
        if route.fault is not None:
            yield fault_of(route.fault)
        if route.cors_policy is not None:
            yield cors_of(route.cors_policy)
        yield from self._mirrors(field, route)

    def _mirrors(self, field: str, route: api.HTTPRoute) -> Iterator[Mirror]:
        mirrors = [
            (f"{field}.mirrors[{n}].destination", it.destination, it.percentage) for n, it in enumerate(route.mirrors)
        ]
        if route.mirror is not None:
            mirrors.append((f"{field}.mirror", route.mirror, route.share_of_mirror))
        for place, destination, percentage in mirrors:
            cluster = self._cluster(place, destination, "nothing is mirrored to it")
            share = 100.0 if percentage is None else percentage.value
            if cluster is not None and share:
                yield Mirror(cluster, round(share * _PRECISION), 100 * _PRECISION)

    # -- destinations ----------------------------------------------------------------------------------------------

    def _cluster(
        self, field: str, destination: api.Destination, cost: str = "its share is answered with 503"
    ) -> ClusterName | None:
        service = self._service(destination.host)
        if service is None:
            host = destination.host if "." in destination.host else f"{destination.host}.{self._key.namespace}.svc"
            sentence = f"{self._registry.why_no_host(host)}; {cost}"
            self._report.tell(f"{field}.host", sentence, ConfigCode.BACKEND_NOT_FOUND)
            return None
        number = destination.port.number if destination.port is not None else None
        if number is None:
            number = service.ports[0].port if len(service.ports) == 1 else self._port
        port = service.port(number)
        if port is None:
            known = ", ".join(str(it.port) for it in service.ports) or "none"
            sentence = f"{service.hostname} has no port {number}; its ports are {known}; {cost}"
            self._report.tell(f"{field}.port", sentence, ConfigCode.BACKEND_NOT_FOUND)
            return None
        cluster = self._clusters.of(service, port, destination.subset)
        if cluster is None:
            sentence = f"no DestinationRule for {service.hostname} has a subset {destination.subset}; {cost}"
            self._report.tell(f"{field}.subset", sentence, ConfigCode.BACKEND_NOT_FOUND)
        return cluster

    def _service(self, host: str) -> Service | None:
        if "." not in host:
            return self._registry.service_named(self._key.namespace, host)
        return self._registry.visible(host.lower(), self._key.namespace)


def _weight(it: api.HTTPRouteDestination | api.L4RouteDestination, all_of_them: tuple[object, ...]) -> int:
    """A single destination gets all requests, whatever its weight."""
    return it.weight if len(all_of_them) > 1 else 1
