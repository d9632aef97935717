"""Compile rules of HTTPRoute and GRPCRoute.

Problems stay local: an unsupported filter makes its rule answer 500, because the API forbids ignoring it. An unresolved
mirror is left out, and requests continue.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from re import escape

from l4.config.documents import ObjectKey
from l4.config.durations import seconds_of
from policies import wire_text
from policies.attributes import ClusterName
from policies.authorizer import Authorizer
from policies.cors import Cors, OriginPattern
from policies.filters import NO_FILTERS, Filters, in_order
from policies.matching import ANYTHING, Exact, Regex, StringMatch
from policies.mirror import Mirror
from policies.opaque import OpaqueRoute
from policies.path_match import PathKind, PathMatch
from policies.path_normalization import BASE, PathNormalization
from policies.retry import DEFAULT_RETRIES, RetryPolicy, retries_on_statuses
from policies.rewrite import HeaderEdit, PathEdit, PortSource, Redirect, UrlRewrite
from policies.route import FieldMatch, Match, Route, Rule, RuleSource, WeightedBackend
from policies.session import SessionPersistence
from policies.timeout import NO_TIMEOUTS, Timeouts
from waypoint.config.codes import ConfigCode
from waypoint.config.gateway_api import routes as api
from waypoint.config.gateway_api.grpc_route import GRPCMethodMatch, GRPCRouteMatch, GRPCRouteRule
from waypoint.config.gateway_api.http_route import HTTPRouteMatch, HTTPRouteRule, Retry
from waypoint.config.gateway_api.l4_routes import L4Rule
from waypoint.config.gateway_api.references import Reference, References, Unresolved
from waypoint.config.gateway_api.route_authorizer import authorizer_of
from waypoint.config.gateway_api.sessions import session_of
from waypoint.config.report import Report

_PATH_KINDS = {"Exact": PathKind.EXACT, "PathPrefix": PathKind.PREFIX, "RegularExpression": PathKind.REGEX}
_FILTERS = frozenset(
    {"RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "RequestMirror", "CORS"}
    | {"ExternalAuth"}
)
_BACKEND_FILTERS = _FILTERS - {"CORS", "ExternalAuth"}
_RESET = "its share is reset"
_NOWHERE = (WeightedBackend(None),)


class Rules:
    """Compiles the rules of one route object.

    Problems go into `report`, and the indexes of rules that cannot be compiled into `dropped`. `refused` are rules that
    could not be parsed, which has been reported already.
    """

    def __init__(
        self,
        key: ObjectKey,
        references: References,
        report: Report,
        refused: Mapping[tuple[str, int], str] | None = None,
        normalization: PathNormalization = BASE,
    ) -> None:
        self.dropped: set[int] = set()
        self._normalization = normalization
        self._refused = {index: why for (_, index), why in (refused or {}).items()}
        self._key = key
        self._references = references
        self._report = report

    def http(self, rules: tuple[HTTPRouteRule, ...]) -> Iterator[Route]:
        for index, rule in enumerate(rules):
            matches = self._matches(index, rule)
            compiled = self._rule(index, rule, matches)
            yield from (Route(match, compiled) for match in matches)
            if compiled.filters.get(Cors) is not None:
                yield from (Route(_preflight(it), compiled) for it in matches if it.method or it.headers)

    def grpc(self, rules: tuple[GRPCRouteRule, ...]) -> Iterator[Route]:
        for index, rule in enumerate(rules):
            matches = self._matches(index, rule)
            compiled = self._rule(index, rule, matches)
            yield from (Route(match, compiled) for match in matches)

    def opaque(self, rules: tuple[L4Rule, ...], hostnames: tuple[str, ...] = ("",)) -> Iterator[OpaqueRoute]:
        """Compile rules of a TCPRoute, or of a TLSRoute with its host names."""
        for index, rule in enumerate(rules):
            name, source = self._named(index, rule.name)
            compiled = Rule(name, self._of_connections(index, rule), source=source)
            yield from (OpaqueRoute(hostname.lower(), compiled) for hostname in hostnames)

    def _of_connections(self, index: int, rule: L4Rule) -> tuple[WeightedBackend, ...]:
        if self._is_refused(index):
            return _NOWHERE
        return tuple(
            WeightedBackend(self._resolved(f"spec.rules[{index}].backendRefs[{number}]", ref, _RESET), ref.weight)
            for number, ref in enumerate(rule.backend_refs)
        )

    def _is_refused(self, index: int) -> bool:
        """Whether this rule is a stand-in for an invalid one, and goes nowhere."""
        if index not in self._refused:
            return False
        self._report.refuse(self._refused[index])
        self.dropped.add(index)
        return True

    def _matches(self, index: int, rule: HTTPRouteRule | GRPCRouteRule) -> list[Match]:
        return [] if index in self._refused and not rule.matches else matches_of(rule, self._normalization)

    def _named(self, index: int, name: str | None) -> tuple[str, RuleSource]:
        key = self._key
        source = RuleSource(key.kind, key.namespace, key.name, index)
        return name or f"{key.namespace}.{key.name}.{index}", source

    def _rule(self, index: int, rule: HTTPRouteRule | GRPCRouteRule, matches: list[Match]) -> Rule:
        field = f"spec.rules[{index}]"
        name, source = self._named(index, rule.name)
        if self._is_refused(index):
            return Rule(name, _NOWHERE, source=source)
        try:
            return self._carried_out(index, rule, matches)
        except ValueError as error:
            self._report.drop(field, f"{error}; its requests are answered with 500", ConfigCode.RULE_INVALID)
            self.dropped.add(index)
            return Rule(name, _NOWHERE, source=source)

    def _carried_out(self, index: int, rule: HTTPRouteRule | GRPCRouteRule, matches: list[Match]) -> Rule:
        """Raises ValueError for text that is not valid in a message."""
        field = f"spec.rules[{index}]"
        name, source = self._named(index, rule.name)
        if not self._are_known(f"{field}.filters", rule.filters, _FILTERS):
            self.dropped.add(index)
            return Rule(name, _NOWHERE, source=source)
        prefix = matches[0].path.prefix if matches[0].path.kind is PathKind.PREFIX else b""
        filters = self._filters(f"{field}.filters", rule.filters, prefix)
        if rule.session_persistence:
            session = _session(rule.session_persistence, source, matches)
            filters = replace(filters, policies=in_order([*filters.policies, session]))
        backends = tuple(
            self._backend(f"{field}.backendRefs[{number}]", ref, prefix) for number, ref in enumerate(rule.backend_refs)
        )
        timeouts = rule.timeouts if isinstance(rule, HTTPRouteRule) else api.Timeouts()
        retry = rule.retry if isinstance(rule, HTTPRouteRule) else None
        return Rule(
            name=name,
            backends=backends,
            filters=filters,
            timeouts=_timeouts(timeouts, has_retry=retry is not None),
            retry=_retry(retry, timeouts),
            source=source,
        )

    def _backend(self, field: str, ref: api.BackendRef, prefix: bytes) -> WeightedBackend:
        cluster = self._resolved(field, ref)
        if not self._are_known(f"{field}.filters", ref.filters, _BACKEND_FILTERS):
            return WeightedBackend(None, ref.weight)
        return WeightedBackend(cluster, ref.weight, self._filters(f"{field}.filters", ref.filters, prefix))

    def _resolved(self, field: str, ref: Reference, consequence: str = "its share answers 500") -> ClusterName | None:
        found = self._references.resolve(self._key, ref)
        if not isinstance(found, Unresolved):
            return found
        sentence = f"{found.sentence}; {consequence}"
        self._report.unresolve(f"{field}.{found.field}", sentence, found.code, found.reason)
        return None

    def _are_known(self, field: str, filters: tuple[api.Filter, ...], known: frozenset[str]) -> bool:
        unknown = [(number, it.type) for number, it in enumerate(filters) if it.type not in known]
        for number, kind in unknown:
            place = f"{field}[{number}]"
            if kind in _FILTERS:
                sentence = f"{kind} is not supported on a backend, only on a rule; its share answers 500"
            else:
                sentence = f"{kind} is not supported; its requests are answered with 500"
            self._report.drop(place, sentence, ConfigCode.FILTER_INVALID)
        return not unknown

    def _filters(self, field: str, filters: tuple[api.Filter, ...], prefix: bytes) -> Filters:
        if not filters:
            return NO_FILTERS
        redirects = [it.request_redirect for it in filters if it.request_redirect is not None]
        rewrites = [it.url_rewrite for it in filters if it.url_rewrite is not None]
        cors = [it.cors for it in filters if it.cors is not None]
        return Filters(
            request_edit=_edit([it.request_header_modifier for it in filters]),
            response_edit=_edit([it.response_header_modifier for it in filters]),
            rewrite=_rewrite(rewrites[0], prefix) if rewrites else None,
            redirect=_redirect(redirects[0], prefix) if redirects else None,
            policies=in_order(
                (
                    *self._authorizers(field, filters),
                    *(_cors(it) for it in cors[:1]),
                    *self._mirrors(field, filters),
                )
            ),
        )

    def _authorizers(self, field: str, filters: tuple[api.Filter, ...]) -> Iterator[Authorizer]:
        """Yield the rule's authorizer, named after the route. It denies all if its backend cannot be resolved."""
        for number, it in enumerate(filters):
            auth = it.external_auth
            if auth is not None:
                place, key = f"{field}[{number}].externalAuth.backendRef", self._key
                cluster = self._resolved(place, auth.backend_ref, "its requests are denied")
                yield authorizer_of(f"{key.kind}/{key.namespace}/{key.name}", cluster, auth)
                return

    def _mirrors(self, field: str, filters: tuple[api.Filter, ...]) -> Iterator[Mirror]:
        for number, it in enumerate(filters):
            mirror = it.request_mirror
            if mirror is None:
                continue
            place = f"{field}[{number}].requestMirror.backendRef"
            cluster = self._resolved(place, mirror.backend_ref, "nothing is mirrored to it")
            if cluster is None:
                continue
            if mirror.fraction is not None:
                yield Mirror(cluster, mirror.fraction.numerator, mirror.fraction.denominator)
            else:
                yield Mirror(cluster, 100 if mirror.percent is None else mirror.percent)


# -- matches -------------------------------------------------------------------------------------------------------


def matches_of(rule: HTTPRouteRule | GRPCRouteRule, normalization: PathNormalization = BASE) -> list[Match]:
    """Return the matches in the written order. A rule without matches matches everything."""
    if isinstance(rule, HTTPRouteRule):
        return [_http_match(match, normalization) for match in rule.matches or (HTTPRouteMatch(),)]
    return [_grpc_match(match) for match in rule.matches or (GRPCRouteMatch(),)]


def _http_match(match: HTTPRouteMatch, normalization: PathNormalization) -> Match:
    value, regex = match.path.value.encode(), None
    if match.path.type == "RegularExpression":
        regex = Regex.parse(match.path.value)
    else:
        value = normalization.of_path(value)
    return Match(
        path=PathMatch(_PATH_KINDS[match.path.type], value, regex),
        method=match.method.encode() if match.method else None,
        headers=tuple(_first_of_each(match.headers, lower=True)),
        query=tuple(_first_of_each(match.query_params, lower=False)),
    )


def _preflight(match: Match) -> Match:
    """Return the match for the preflight of a matching request.

    A preflight names the method and the headers that the page adds, without their values. It carries the headers that
    the browser adds to every request.
    """
    method = FieldMatch(b"access-control-request-method", Exact(match.method) if match.method else ANYTHING)
    told = (_in_preflight(it) for it in match.headers if not _IS_UNTOLD(it.name))
    return replace(match, method=b"OPTIONS", headers=(method, *told))


def _in_preflight(header: FieldMatch) -> FieldMatch:
    if _IS_OF_BROWSER(header.name):
        return header
    named = Regex.parse(rf"(?:.*[ ,])?{escape(header.name.decode())}(?:[ ,].*)?")
    return FieldMatch(b"access-control-request-headers", named)


_IS_OF_BROWSER = re.compile(
    rb"host|origin|referer|user-agent|accept|accept-(encoding|language)|sec-.*|access-control-request-(headers|method)"
).fullmatch
_IS_UNTOLD = re.compile(rb"cookie|range|content-(language|length|type)").fullmatch
"""Headers that a preflight does not name reliably.

https://fetch.spec.whatwg.org/#cors-unsafe-request-header-names
"""


def _grpc_match(match: GRPCRouteMatch) -> Match:
    """A method is the path `/service/method` (gRPC over HTTP/2)."""
    path = _grpc_path(match.method) if match.method is not None else PathMatch()
    return Match(path=path, headers=tuple(_first_of_each(match.headers, lower=True)))


def _grpc_path(method: GRPCMethodMatch) -> PathMatch:
    service, name = method.service, method.method
    if method.type == "Exact":
        if service and name:
            return PathMatch(PathKind.EXACT, f"/{service}/{name}".encode())
        if service:
            return PathMatch(PathKind.PREFIX, f"/{service}/".encode())
        if name:
            return _grpc_regex("[^/]+", escape(name))
        return PathMatch()
    return _grpc_regex(service or "[^/]+", name or "[^/]+")


def _grpc_regex(service: str, method: str) -> PathMatch:
    text = f"/(?:{service})/(?:{method})"
    return PathMatch(PathKind.REGEX, text.encode(), Regex.parse(text))


def _first_of_each(matches: Iterable[api.HeaderMatch | api.QueryParamMatch], *, lower: bool) -> Iterator[FieldMatch]:
    """Of several matches for one name, only the first counts, according to the API."""
    seen: set[str] = set()
    for match in matches:
        name = match.name.lower() if lower else match.name
        if name not in seen:
            seen.add(name)
            yield FieldMatch(name.encode(), _string_match(match.type, match.value))


def _string_match(kind: str, value: str) -> StringMatch:
    return Regex.parse(value) if kind == "RegularExpression" else Exact(value.encode())


# -- what is done --------------------------------------------------------------------------------------------------


def _timeouts(timeouts: api.Timeouts, *, has_retry: bool) -> Timeouts:
    """Without retries and request timeout, the timeout of one attempt applies to the request, as in Istio."""
    seconds = _seconds(timeouts.request)
    if seconds is None and not has_retry:
        seconds = _seconds(timeouts.backend_request)
    return Timeouts(seconds) if seconds is not None else NO_TIMEOUTS


def _retry(retry: Retry | None, timeouts: api.Timeouts) -> RetryPolicy | None:
    attempt = _seconds(timeouts.backend_request)
    if retry is not None:
        return retries_on_statuses(retry.codes, retry.attempts, _seconds(retry.backoff), attempt)
    return replace(DEFAULT_RETRIES, per_try_timeout=attempt) if attempt is not None else None


def _seconds(duration: str | None) -> float | None:
    return seconds_of(duration) if duration is not None else None


def _session(session: api.SessionPersistence, source: RuleSource, matches: list[Match]) -> SessionPersistence:
    """A cookie's path is the route's, if the route has one (GEP-1619)."""
    paths = {match.path.value for match in matches if match.path.kind is not PathKind.REGEX}
    return session_of(session, str(source), paths.pop() if len(matches) == len(paths) == 1 else b"/")


def _edit(modifiers: list[api.HeaderModifier | None]) -> HeaderEdit | None:
    """Combine all modifiers of one direction into one edit. None if there are none."""
    given = [it for it in modifiers if it is not None]
    if not given:
        return None
    changed = [it for modifier in given for it in modifier.set]
    host = next((it.value for it in changed if it.name.lower() == "host"), None)
    return HeaderEdit(
        set=tuple(wire_text.field(it.name, it.value) for it in changed if it.name.lower() != "host"),
        add=tuple(wire_text.field(it.name, it.value) for modifier in given for it in modifier.add),
        remove=tuple(sorted(wire_text.header_name(name) for modifier in given for name in modifier.remove)),
        authority=wire_text.authority(host) if host is not None else None,
    )


def _path_edit(path: api.PathModifier | None, prefix: bytes) -> PathEdit | None:
    if path is None:
        return None
    if path.type == "ReplaceFullPath":
        return PathEdit(wire_text.path(path.replace_full_path or "/"))
    return PathEdit(wire_text.path(path.replace_prefix_match or "/"), replaces=prefix)


def _rewrite(rewrite: api.URLRewrite, prefix: bytes) -> UrlRewrite:
    hostname = wire_text.authority(rewrite.hostname) if rewrite.hostname else None
    return UrlRewrite(hostname, _path_edit(rewrite.path, prefix))


def _redirect(redirect: api.RequestRedirect, prefix: bytes) -> Redirect:
    """Without a configured port, use the scheme's port if a scheme is given, else the port of the route's parent."""
    return Redirect(
        scheme=redirect.scheme.encode() if redirect.scheme else None,
        hostname=wire_text.authority(redirect.hostname) if redirect.hostname else None,
        path=_path_edit(redirect.path, prefix),
        port=redirect.port,
        status=redirect.status_code,
        port_source=PortSource.SCHEME if redirect.scheme else PortSource.LISTENER,
    )


def _cors(cors: api.CORS) -> Cors:
    return Cors(
        origins=tuple(OriginPattern(origin.lower().encode()) for origin in cors.allow_origins),
        methods=tuple(map(wire_text.token, cors.allow_methods)),
        headers=tuple(wire_text.token(name.lower()) for name in cors.allow_headers),
        expose=tuple(wire_text.token(name.lower()) for name in cors.expose_headers),
        max_age_seconds=cors.max_age,
        has_credentials=bool(cors.allow_credentials),
        forwards_unmatched=False,
    )
