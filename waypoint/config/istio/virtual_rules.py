"""The routes of a VirtualService → rules of the data path.

The order in which they are written is the order in which they are asked. A destination that can't be resolved costs its
share of requests 503, as in Istio.
"""

from base64 import b64decode
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from l4.config.codes import Code
from l4.config.documents import ObjectKey
from l4.config.resources import Resource
from l4.discovery.registry import Registry
from l4.discovery.workload import Service
from policies import wire_text
from policies.attributes import ClusterName
from policies.cors import Cors, OriginPattern
from policies.fault import Abort, Delay, Fault
from policies.filters import NO_FILTERS, DirectResponse, Filters
from policies.grpc_status import CODES, HTTP_STATUSES
from policies.header_format import FormattedHeader, HeaderFormat
from policies.matching import ANYTHING, Exact, Prefix, Regex, StringMatch
from policies.mirror import Mirror
from policies.opaque import OpaqueRoute
from policies.path_match import PathKind, PathMatch
from policies.path_normalization import BASE, PathNormalization
from policies.retry import BACKOFF_SECONDS, Condition, RetryPolicy
from policies.rewrite import (
    AnyPathEdit,
    HeaderEdit,
    PathEdit,
    PortSource,
    Redirect,
    RegexEdit,
    TextPrefixEdit,
    UrlRewrite,
)
from policies.route import FieldMatch, Match, Route, Rule, RuleSource, SourceMatch, WeightedBackend
from policies.timeout import NO_TIMEOUTS, Timeouts
from policies.wire_text import Authority, Field, HeaderName, HeaderValue, Query
from waypoint.config.destinations import Destinations
from waypoint.config.durations import seconds_of
from waypoint.config.istio import virtual_service as api
from waypoint.config.istio.delegates import delegated
from waypoint.config.report import Report

_PRECISION = 1_000_000  # of percentages, a ten-thousandth of a percent
_UNAVAILABLE = 503
_DEFAULT_RETRY_ON = frozenset(
    {
        Condition.CONNECT_FAILURE,
        Condition.REFUSED_STREAM,
        Condition.GRPC_UNAVAILABLE,
        Condition.GRPC_CANCELLED,
        Condition.RETRIABLE_STATUS_CODES,
    }
)
_ANY_PATH = PathMatch(PathKind.TEXT_PREFIX, b"/")
_NOWHERE = (WeightedBackend(None),)
_AUTHORITIES = frozenset({"host", ":authority"})
_PORT_SOURCES = {
    None: PortSource.HOST,
    "FROM_REQUEST_PORT": PortSource.LISTENER,
    "FROM_PROTOCOL_DEFAULT": PortSource.SCHEME,
}
_ANYWHERE = (api.HTTPRouteDestination(api.Destination("anywhere")),)


Delegates = Mapping[tuple[str, str], Resource[api.VirtualService]]
"""The objects that name no host, by namespace and name."""


class VirtualRules:
    """Compiles the routes of one object for one port of the service that they are for."""

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
                self._tell_harmless(f"spec.http[{index}].match[{number}]", match)
                prefix = self._replaced_prefix(route, match)
                if (prefix, match.name) not in rules:
                    rules[prefix, match.name] = self._rule(index, route, prefix, match.name)
                yield Route(self._match(match), rules[prefix, match.name])

    def _delegated(self, index: int, root: api.HTTPRoute, to: api.Delegate) -> Iterator[Route]:
        """Requests that the root takes and for which nothing can be found out are answered 500, and go nowhere else."""
        namespace, field = to.namespace or self._key.namespace, f"spec.http[{index}].delegate"
        resource = self._delegates.get((namespace, to.name))
        if resource is None:
            sentence = f"no VirtualService without hosts is named {namespace}/{to.name}; its requests are answered 500"
            self._report.tell(field, sentence, Code.BACKEND_NOT_FOUND)
            yield from self._stopped(index, root)
            return
        exported = resource.value.spec.export_to
        if exported and not {"*", self._key.namespace, "." if namespace == self._key.namespace else "*"} & set(
            exported
        ):
            sentence = f"{resource.key} is not exported to {self._key.namespace}; its requests are answered 500"
            self._report.tell(field, sentence, Code.REFERENCE_NOT_PERMITTED)
            yield from self._stopped(index, root)
            return
        report = Report(resource)
        rules = VirtualRules(resource.key, self._registry, self._clusters, report, self._port, {}, self._normalization)
        for number, leaf in enumerate(resource.value.spec.http):
            try:
                route = delegated(root, leaf)
            except ValueError as error:
                sentence = f"does not go with {self._key} spec.http[{index}]: {error}; its requests are answered 500"
                report.tell(f"spec.http[{number}]", sentence, Code.FILTER_INVALID)
                yield from rules._stopped(number, api.HTTPRoute(match=leaf.match or root.match, route=_ANYWHERE))
                continue
            if route is None:
                sentence = f"matches nothing of what {self._key} spec.http[{index}] passes on, and has no effect there"
                report.tell(f"spec.http[{number}].match", sentence, Code.RULE_NEVER_MATCHES)
            elif route.delegate is not None:
                sentence = "a delegate can't delegate; its requests are answered 500"
                report.tell(f"spec.http[{number}].delegate", sentence, Code.FILTER_INVALID)
                yield from rules._stopped(number, route)
            else:
                yield from rules._routes(number, route)
        self._report.problems += report.problems

    def _stopped(self, index: int, route: api.HTTPRoute) -> Iterator[Route]:
        """Its place in the order stays: what it was to take must not go to the rules below."""
        rule = Rule(self._name(index, route.name), _NOWHERE, source=self._source(index, "http"))
        for match in route.match or (api.HTTPMatch(),):
            if self._is_for_us(match.gateways, match.port):
                yield Route(self._match(match), rule)

    def _tell_harmless(self, field: str, match: api.HTTPMatch) -> None:
        if match.stat_prefix:
            sentence = "has no effect: there are no metrics by route here; ROUTE_NAME of the access log has its name"
            self._report.tell(f"{field}.statPrefix", sentence, Code.NOT_CARRIED_OUT)

    def opaque(self, section: str, routes: Sequence[api.TLSRoute | api.TCPRoute]) -> Iterator[OpaqueRoute]:
        for index, route in enumerate(routes):
            field = f"spec.{section}[{index}]"
            is_refused = (section, index) in self._refused
            backends = _NOWHERE if is_refused else tuple(self._of_connections(field, route))
            rule = Rule(self._name(index), backends, source=self._source(index, section))
            for number, match in enumerate(route.match or (api.TCPMatch(),)):
                if match.has_unread:
                    place, sentence = f"{field}.match[{number}]", "only sniHosts, port and gateways are looked at here"
                    self._report.tell(place, f"has no effect: {sentence}", Code.NOT_CARRIED_OUT)
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
        """The prefix that matched, where a rewrite or redirect puts something in its place; None for the whole path."""
        replaces_it = route.rewrite is not None or (route.redirect is not None and route.redirect.prefix_rewrite)
        prefix = match.uri.prefix if replaces_it and match.uri is not None else None
        return self._normalization.of_prefix(prefix.encode()) if prefix is not None else None

    # -- rules -----------------------------------------------------------------------------------------------------

    def _rule(self, index: int, route: api.HTTPRoute, prefix: bytes | None, of_match: str = "") -> Rule:
        name = self._name(index, route.name) + (of_match and f".{of_match}")
        try:
            return self._carried_out(index, route, prefix, name)
        except _Refused as refused:
            sentence = f"{refused.sentence}; requests for the rule are answered with 500"
            self._report.drop(f"spec.http[{index}].{refused.field}", sentence, Code.RULE_INVALID)
            return Rule(name, _NOWHERE, source=self._source(index, "http"))

    def _carried_out(self, index: int, route: api.HTTPRoute, prefix: bytes | None, name: str) -> Rule:
        """Raises _Refused for text that can't become part of a message."""
        field = f"spec.http[{index}]"
        seconds = seconds_of(route.timeout)
        if route.retries is not None and route.retries.retry_remote_localities:
            sentence = (
                "has no effect: a retry goes where a first attempt would; see localityLbSetting of DestinationRule"
            )
            self._report.tell(f"{field}.retries.retryRemoteLocalities", sentence, Code.NOT_CARRIED_OUT)
        return Rule(
            name=name,
            backends=tuple(self._backends(field, route)),
            filters=self._filters(field, route, prefix),
            timeouts=Timeouts(seconds) if seconds is not None else NO_TIMEOUTS,
            retry=_retry(route.retries) if route.retries is not None else None,
            fault=_fault(route.fault) if route.fault is not None else None,
            source=self._source(index, "http"),
        )

    def _backends(self, field: str, route: api.HTTPRoute) -> Iterator[WeightedBackend]:
        for number, it in enumerate(route.route):
            cluster = self._cluster(f"{field}.route[{number}].destination", it.destination)
            edits = _edits(f"route[{number}].headers", it.headers)
            filters = Filters(*edits) if any(edits) else NO_FILTERS
            yield WeightedBackend(cluster, _weight(it, route.route), filters, _UNAVAILABLE)

    def _filters(self, field: str, route: api.HTTPRoute, prefix: bytes | None) -> Filters:
        rewrite, redirect, direct = route.rewrite, route.redirect, route.direct_response
        request_edit, response_edit = _edits("headers", route.headers)
        return Filters(
            request_edit=request_edit,
            response_edit=response_edit,
            rewrite=_rewrite(rewrite, prefix) if rewrite is not None else None,
            redirect=_redirect(redirect, prefix) if redirect is not None else None,
            mirrors=tuple(self._mirrors(field, route)),
            cors=_cors(route.cors_policy) if route.cors_policy is not None else None,
            direct=DirectResponse(direct.status, _body(direct.body)) if direct is not None else None,
        )

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
            self._report.tell(f"{field}.host", sentence, Code.BACKEND_NOT_FOUND)
            return None
        number = destination.port.number if destination.port is not None else None
        if number is None:
            number = service.ports[0].port if len(service.ports) == 1 else self._port
        port = service.port(number)
        if port is None:
            known = ", ".join(str(it.port) for it in service.ports) or "none"
            sentence = f"{service.hostname} has no port {number}, but {known}; {cost}"
            self._report.tell(f"{field}.port", sentence, Code.BACKEND_NOT_FOUND)
            return None
        cluster = self._clusters.of(service, port, destination.subset)
        if cluster is None:
            sentence = f"no DestinationRule for {service.hostname} has a subset {destination.subset}; {cost}"
            self._report.tell(f"{field}.subset", sentence, Code.BACKEND_NOT_FOUND)
        return cluster

    def _service(self, host: str) -> Service | None:
        if "." not in host:
            return self._registry.service_named(self._key.namespace, host)
        return self._registry.visible(host.lower(), self._key.namespace)


def _weight(it: api.HTTPRouteDestination | api.L4RouteDestination, all_of_them: tuple[object, ...]) -> int:
    """A single destination gets everything, whatever its weight."""
    return it.weight if len(all_of_them) > 1 else 1


# -- matches -------------------------------------------------------------------------------------------------------


def match_of(match: api.HTTPMatch, registry: Registry, normalization: PathNormalization = BASE) -> Match:
    pseudo = ((b":scheme", match.scheme), (b":method", match.method), (b":authority", match.authority))
    return Match(
        path=_path(match, normalization),
        headers=(
            *(FieldMatch(name, _string(it)) for name, it in pseudo if it is not None),
            *_fields(match.headers, lower=True),
        ),
        query=tuple(_fields(match.query_params, lower=False)),
        without=tuple(_fields(match.without_headers, lower=True)),
        source=_clients(match, registry),
    )


def _clients(match: api.HTTPMatch, registry: Registry) -> SourceMatch | None:
    if not match.source_namespace and not match.source_labels:
        return None
    ips = None
    if wanted := match.source_labels.items():
        workloads = registry.workloads.values()
        ips = frozenset(ip for it in workloads if wanted <= it.labels.items() for ip in it.addresses)
    return SourceMatch(match.source_namespace or None, ips)


def _string(match: api.StringMatch) -> StringMatch:
    """A regular expression `*` is Istio's way to say that anything will do."""
    if match.exact is not None:
        return Exact(match.exact.encode())
    if match.prefix is not None:
        return Prefix(match.prefix.encode())
    if match.regex is not None and match.regex != "*":
        return Regex.parse(match.regex)
    return ANYTHING


def _fields(matches: Mapping[str, api.StringMatch], *, lower: bool) -> Iterator[FieldMatch]:
    for name, match in matches.items():
        yield FieldMatch((name.lower() if lower else name).encode(), _string(match))


def _path(match: api.HTTPMatch, normalization: PathNormalization) -> PathMatch:
    uri = match.uri
    if uri is None:
        return _ANY_PATH
    if uri.regex is not None:
        return PathMatch(PathKind.REGEX, uri.regex.encode(), Regex.parse(uri.regex if uri.regex != "*" else ".*"))
    if uri.exact is not None:
        kind, value = PathKind.EXACT, normalization.of_path(uri.exact.encode())
    else:
        kind, value = PathKind.TEXT_PREFIX, normalization.of_prefix((uri.prefix or "").encode())
    return PathMatch(kind, value.lower() if match.ignore_uri_case else value, ignores_case=match.ignore_uri_case)


# -- what is done --------------------------------------------------------------------------------------------------


def _target(
    place: str, uri: str, regex: api.RegexRewrite | None, prefix: bytes | None
) -> tuple[AnyPathEdit | None, Query | None]:
    if regex is not None:
        with _in(f"{place}.uriRegexRewrite.rewrite"):
            pattern = Regex.parse(regex.match)
            return RegexEdit(pattern, wire_text.substitution(regex.rewrite, pattern.groups)), None
    if not uri:
        return None, None
    with _in(f"{place}.uri"):
        path, query = wire_text.path_and_query(uri)
    return TextPrefixEdit(path, len(prefix)) if prefix is not None else PathEdit(path), query


def _rewrite(rewrite: api.Rewrite, prefix: bytes | None) -> UrlRewrite:
    edit, query = _target("rewrite", rewrite.uri, rewrite.uri_regex_rewrite, prefix)
    return UrlRewrite(_authority("rewrite.authority", rewrite.authority), edit, query)


def _redirect(redirect: api.Redirect, prefix: bytes | None) -> Redirect:
    uri = redirect.prefix_rewrite or redirect.uri
    edit, query = _target("redirect", uri, None, prefix if redirect.prefix_rewrite else None)
    return Redirect(
        scheme=redirect.scheme.encode() or None,
        hostname=_authority("redirect.authority", redirect.authority),
        path=edit,
        port=redirect.port,
        status=redirect.redirect_code or 301,
        port_source=_PORT_SOURCES[redirect.derive_port],
        query=query,
    )


def _authority(place: str, text: str) -> Authority | None:
    with _in(place):
        return wire_text.authority(text) if text else None


def _body(body: api.DirectBody | None) -> bytes:
    if body is None:
        return b""
    return body.string.encode() if body.string is not None else b64decode(body.bytes or "")


def _edits(place: str, headers: api.Headers) -> tuple[HeaderEdit | None, HeaderEdit | None]:
    """Of the request and of the response, which has no authority."""
    request, response = f"{place}.request", f"{place}.response"
    changed = headers.request.set
    host = next((value for name, value in changed.items() if name.lower() in _AUTHORITIES), "")
    authority = _authority(f"{request}.set", host)
    others = {name: value for name, value in changed.items() if name.lower() not in _AUTHORITIES}
    return _edit(request, others, headers.request, authority), _edit(response, headers.response.set, headers.response)


def _edit(
    place: str, changed: Mapping[str, str], operations: api.HeaderOperations, authority: Authority | None = None
) -> HeaderEdit | None:
    if operations == api.HeaderOperations():
        return None
    set_ = dict(_values_of(f"{place}.set", changed))
    added = dict(_values_of(f"{place}.add", operations.add))
    return HeaderEdit(
        set=tuple(_plain(set_)),
        add=tuple(_plain(added)),
        remove=tuple(sorted(_names(f"{place}.remove", operations.remove))),
        authority=authority,
        formatted=(*_formatted(set_, is_added=False), *_formatted(added, is_added=True)),
    )


_Values = Mapping[HeaderName, HeaderValue | HeaderFormat]


def _values_of(place: str, values: Mapping[str, str]) -> Iterator[tuple[HeaderName, HeaderValue | HeaderFormat]]:
    for name, value in values.items():
        with _in(f"{place}.{name}"):
            yield wire_text.header_name(name), HeaderFormat.parse(value)


def _plain(values: _Values) -> Iterator[Field]:
    yield from ((name, value) for name, value in values.items() if not isinstance(value, HeaderFormat))


def _formatted(values: _Values, *, is_added: bool) -> Iterator[FormattedHeader]:
    for name, value in values.items():
        if isinstance(value, HeaderFormat):
            yield FormattedHeader(name, value, is_added)


def _names(place: str, names: tuple[str, ...]) -> Iterator[HeaderName]:
    with _in(place):
        yield from map(wire_text.header_name, names)


def _retry(retries: api.Retries) -> RetryPolicy:
    named = api.words(retries.retry_on)
    statuses = frozenset(int(word) for word in named if word.isdecimal())
    conditions = frozenset(Condition(word) for word in named if not word.isdecimal()) or (
        _DEFAULT_RETRY_ON if not named else frozenset()
    )
    if statuses:
        conditions |= {Condition.RETRIABLE_STATUS_CODES}
    base = seconds_of(retries.backoff) or BACKOFF_SECONDS
    return RetryPolicy(
        conditions,
        attempts=retries.attempts,
        statuses=statuses,
        backoff=base,
        max_backoff=10 * base,
        per_try_timeout=seconds_of(retries.per_try_timeout),
        avoids_tried=retries.retry_ignore_previous_hosts is not False,
    )


def _fault(fault: api.Fault) -> Fault:
    delay, abort = fault.delay, fault.abort
    return Fault(
        delay=Delay(seconds_of(delay.fixed_delay) or 0.0, _chance(delay.percentage, delay.percent)) if delay else None,
        abort=_abort(abort) if abort is not None else None,
    )


def _abort(abort: api.Abort) -> Abort:
    if abort.grpc_status is not None:
        grpc_status = CODES[abort.grpc_status.upper()]
        return Abort(HTTP_STATUSES[grpc_status], _chance(abort.percentage), grpc_status)
    return Abort(abort.http_status or 500, _chance(abort.percentage))


def _chance(percentage: api.Percent, percent: int | None = None) -> float:
    """Where none is given it is never."""
    return (percentage.value if percentage.value or percent is None else percent) / 100


def _cors(cors: api.CorsPolicy) -> Cors:
    lists = (("allowMethods", cors.allow_methods), ("allowHeaders", cors.allow_headers))
    methods, headers, expose = (
        tuple(_tokens(f"corsPolicy.{name}", values))
        for name, values in (*lists, ("exposeHeaders", cors.expose_headers))
    )
    origins = (OriginPattern(b"*") if it.exact == "*" else _string(it) for it in cors.allow_origins)
    return Cors(
        origins=(*origins, *(OriginPattern(origin.lower().encode()) for origin in cors.allow_origin)),
        methods=methods,
        headers=headers,
        expose=expose,
        max_age_seconds=int(seconds_of(cors.max_age) or 0) if cors.max_age is not None else None,
        has_credentials=bool(cors.allow_credentials),
        forwards_unmatched=cors.unmatched_preflights != "IGNORE",
    )


def _tokens(place: str, values: tuple[str, ...]) -> Iterator[HeaderValue]:
    """Names of headers are in lower case, those of methods as they are."""
    for value in values:
        with _in(place):
            yield wire_text.token(value if place.endswith("Methods") else value.lower())


@dataclass
class _Refused(Exception):
    """`field` is the place in the rule."""

    field: str
    sentence: str


@contextmanager
def _in(field: str) -> Iterator[None]:
    """Say where it is that a text can't become part of a message."""
    try:
        yield
    except ValueError as error:
        raise _Refused(field, str(error)) from None
