"""The schema of VirtualService (networking.istio.io), validated like istiod does.

https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

from l4.config.durations import GoDuration, seconds_of
from l4.config.resources import Ruled, RuleList
from l4.discovery.objects import Metadata, PortNumber, is_ip
from policies.grpc_status import CODES
from policies.matching import Regex
from policies.retry import Condition
from waypoint.config.api_fields import HeaderName
from waypoint.config.gateway_api.routes import decodes
from waypoint.config.refused_rules import http_rules, l4_rules

MESH = "mesh"
_NOBODY = "-"
_MAX_BODY = 1 << 20
_MAX_ROUTES = 4096
_CONDITIONS = frozenset(map(str, Condition))
_LABEL = "[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,255}}\Z)(\*|(\*-?)?{_LABEL})(\.{_LABEL})*\.?").fullmatch

Weight = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Status = Annotated[int, Meta(ge=200, le=599)]
WholePercent = Annotated[int, Meta(ge=0, le=100)]


class Percent(Struct, frozen=True):
    value: Annotated[float, Meta(ge=0, le=100)] = 0.0


class StringMatch(Struct, frozen=True):
    """At most one field may be set. Without any, the value only has to be present."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    def __post_init__(self) -> None:
        if sum(it is not None for it in (self.exact, self.prefix, self.regex)) > 1:
            raise ValueError("exact, prefix and regex exclude each other: keep one")
        if self.regex is not None and self.regex != "*":
            Regex.parse(self.regex)


class HTTPMatch(Struct, frozen=True, rename="camel"):
    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    without_headers: dict[str, StringMatch] = {}
    query_params: dict[str, StringMatch] = {}
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    ignore_uri_case: bool = False
    stat_prefix: str = ""

    def __post_init__(self) -> None:
        if self.uri is not None and self.uri == StringMatch():
            raise ValueError("uri needs exact, prefix or regex")


SetName = Annotated[
    str, Meta(pattern=r"^(:authority|[A-Za-z0-9!#$%&'*+\-.^_|~`]+)\Z", description="a header name, or :authority")
]


class HeaderOperations(Struct, frozen=True):
    set: dict[SetName, str] = {}
    add: dict[HeaderName, str] = {}
    remove: tuple[HeaderName, ...] = ()


class Headers(Struct, frozen=True):
    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()


class PortSelector(Struct, frozen=True):
    number: PortNumber


class Destination(Struct, frozen=True):
    host: Annotated[str, Meta(min_length=1, max_length=253)]
    subset: str = ""
    port: PortSelector | None = None


class HTTPRouteDestination(Struct, frozen=True):
    destination: Destination
    weight: Weight = 0
    headers: Headers = Headers()


class RegexRewrite(Struct, frozen=True):
    match: Annotated[str, Meta(min_length=1)]
    rewrite: str = ""

    def __post_init__(self) -> None:
        Regex.parse(self.match)


class Redirect(Struct, frozen=True, rename="camel"):
    """`prefixRewrite` replaces the matched prefix, if there is one, else the whole path."""

    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    scheme: Literal["", "http", "https"] = ""
    port: PortNumber | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    redirect_code: Literal[0, 301, 302, 303, 307, 308] = 301

    def __post_init__(self) -> None:
        if self.port is not None and self.derive_port is not None:
            raise ValueError("port and derivePort exclude each other: keep one")
        if self.uri and self.prefix_rewrite:
            raise ValueError("uri and prefixRewrite exclude each other: keep one")


class DirectBody(Struct, frozen=True):
    string: str | None = None
    bytes: Annotated[str, Meta(max_length=_MAX_BODY * 4 // 3 + 4)] | None = None

    def __post_init__(self) -> None:
        if (self.string is None) == (self.bytes is None):
            raise ValueError("needs either string or bytes")
        if self.string is not None and len(self.string.encode()) > _MAX_BODY:
            raise ValueError("string is longer than 1 MiB")
        if self.bytes is not None:
            try:
                b64decode(self.bytes, validate=True)
            except ValueError as error:
                raise ValueError(f"bytes is not Base64 (RFC 4648 section 4): {error}") from None


class DirectResponse(Struct, frozen=True):
    status: Status
    body: DirectBody | None = None


class Rewrite(Struct, frozen=True, rename="camel"):
    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None

    def __post_init__(self) -> None:
        if not (self.uri or self.authority or self.uri_regex_rewrite):
            raise ValueError("rewrites nothing: set uri, authority or uriRegexRewrite")
        if self.uri and self.uri_regex_rewrite is not None:
            raise ValueError("uri and uriRegexRewrite exclude each other: keep one")


class Retries(Struct, frozen=True, rename="camel"):
    """`attempts` counts retries after the first attempt. 0 disables retries, and excludes other fields."""

    attempts: Annotated[int, Meta(ge=0, le=1024)] = 0
    per_try_timeout: GoDuration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: GoDuration | None = None

    def __post_init__(self) -> None:
        for word in words(self.retry_on):
            if word not in _CONDITIONS and not (word.isascii() and word.isdecimal() and 200 <= int(word) <= 599):
                raise ValueError(
                    f"retryOn: {word!r} is not a retry condition; known are {', '.join(sorted(_CONDITIONS))}"
                )
        for name, text in (("perTryTimeout", self.per_try_timeout), ("backoff", self.backoff)):
            if text is not None and (seconds_of(text) or 0.0) < 0.001:
                raise ValueError(f"{name} must be 1ms or more")
        more = (self.per_try_timeout, self.retry_on or None, self.retry_remote_localities, self.backoff)
        if not self.attempts and any(it is not None for it in more):
            raise ValueError("attempts is 0 or missing, which disables retries: set it")


class Delay(Struct, frozen=True, rename="camel"):
    """`exponentialDelay` is in the API, but no implementation supports it."""

    fixed_delay: GoDuration | None = None
    exponential_delay: GoDuration | None = None
    percentage: Percent = Percent()
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None

    def __post_init__(self) -> None:
        if self.exponential_delay is not None:
            raise ValueError("exponentialDelay is not supported: use fixedDelay")
        if (seconds_of(self.fixed_delay) or 0.0) < 0.001:
            raise ValueError("fixedDelay is required and must be 1ms or more")


class Abort(Struct, frozen=True, rename="camel"):
    http_status: Status | None = None
    grpc_status: str | None = None
    http2_error: str | None = field(default=None, name="http2Error")
    percentage: Percent = Percent()

    def __post_init__(self) -> None:
        if self.http2_error is not None:
            raise ValueError("http2Error is not supported: use httpStatus or grpcStatus")
        if (self.http_status is None) == (self.grpc_status is None):
            raise ValueError("needs either httpStatus or grpcStatus")
        if self.grpc_status is not None and self.grpc_status.upper() not in CODES:
            raise ValueError(f"grpcStatus {self.grpc_status!r} is unknown; known are {', '.join(CODES)}")


class Fault(Struct, frozen=True):
    delay: Delay | None = None
    abort: Abort | None = None


class MirrorPolicy(Struct, frozen=True):
    destination: Destination
    percentage: Percent | None = None


class CorsPolicy(Struct, frozen=True, rename="camel"):
    allow_origins: tuple[StringMatch, ...] = ()
    allow_origin: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: GoDuration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class Delegate(Struct, frozen=True):
    """Another VirtualService without hosts, by default in the same namespace."""

    name: Annotated[str, Meta(min_length=1)]
    namespace: str = ""


class HTTPRoute(Struct, frozen=True, rename="camel"):
    name: str = ""
    match: Annotated[tuple[HTTPMatch, ...], Meta(max_length=_MAX_ROUTES)] = ()
    route: Annotated[tuple[HTTPRouteDestination, ...], Meta(max_length=_MAX_ROUTES)] = ()
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: Rewrite | None = None
    timeout: GoDuration | None = None
    retries: Retries | None = None
    fault: Fault | None = None
    mirror: Destination | None = None
    mirrors: tuple[MirrorPolicy, ...] = ()
    mirror_percentage: Percent | None = None
    mirror_percent: WholePercent | None = None
    mirror_percent_snake: WholePercent | None = field(default=None, name="mirror_percent")
    cors_policy: CorsPolicy | None = None
    headers: Headers = Headers()

    def __post_init__(self) -> None:
        answers = (self.redirect, self.direct_response, self.delegate)
        if sum(it is not None for it in answers) + bool(self.route) != 1:
            raise ValueError("needs exactly one of route, redirect, directResponse and delegate")
        if len(self.route) > 1 and not any(it.weight for it in self.route):
            raise ValueError("the weights of several destinations must not all be 0")
        if self.redirect is not None and (self.fault is not None or self.rewrite is not None):
            raise ValueError("redirect cannot be combined with fault or rewrite")
        if self.mirror is not None and self.mirrors:
            raise ValueError("mirror and mirrors exclude each other: keep one")

    @property
    def share_of_mirror(self) -> Percent | None:
        """The older fields apply if `mirrorPercentage` is not set."""
        if self.mirror_percentage is not None:
            return self.mirror_percentage
        older = self.mirror_percent if self.mirror_percent is not None else self.mirror_percent_snake
        return Percent(older) if older is not None else None


class L4Match(Struct, frozen=True, rename="camel"):
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""
    source_labels: dict[str, str] = {}
    destination_subnets: tuple[str, ...] = ()

    @property
    def has_unread(self) -> bool:
        """Whether it uses fields that are not supported here."""
        return bool(self.source_namespace or self.source_labels or self.destination_subnets)


class TCPMatch(L4Match, frozen=True, rename="camel"):
    source_subnet: str = ""

    @property
    def has_unread(self) -> bool:
        return bool(self.source_subnet) or super().has_unread


class TLSMatch(L4Match, frozen=True, rename="camel", kw_only=True):
    sni_hosts: Annotated[tuple[str, ...], Meta(min_length=1, max_length=256)]

    def __post_init__(self) -> None:
        for host in self.sni_hosts:
            check_host("sniHosts", host)


class L4RouteDestination(Struct, frozen=True):
    destination: Destination
    weight: Weight = 0


class TCPRoute(Struct, frozen=True):
    route: Annotated[tuple[L4RouteDestination, ...], Meta(min_length=1)]
    match: tuple[TCPMatch, ...] = ()


class TLSRoute(Struct, frozen=True):
    route: Annotated[tuple[L4RouteDestination, ...], Meta(min_length=1)]
    match: Annotated[tuple[TLSMatch, ...], Meta(min_length=1)]


class VirtualServiceSpec(Struct, frozen=True, rename="camel"):
    """Without hosts, it is a delegate for routes of other VirtualServices."""

    hosts: Annotated[tuple[str, ...], Meta(max_length=_MAX_ROUTES)] = ()
    gateways: tuple[str, ...] = ()
    http: Annotated[tuple[HTTPRoute, ...], Meta(max_length=_MAX_ROUTES)] = ()
    tls: Annotated[tuple[TLSRoute, ...], Meta(max_length=_MAX_ROUTES)] = ()
    tcp: Annotated[tuple[TCPRoute, ...], Meta(max_length=_MAX_ROUTES)] = ()
    export_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.http or self.tls or self.tcp):
            raise ValueError("needs http, tls or tcp")
        if not self.hosts and (self.tls or self.tcp or self.gateways):
            raise ValueError(
                "hosts is missing; only a delegate has no hosts, and it must not have gateways, tls or tcp"
            )
        for host in self.hosts:
            check_host("hosts", host)
            if host == "*" and (not self.gateways or MESH in self.gateways):
                raise ValueError("hosts: '*' is valid only for gateways, not for the mesh: list the hosts")
        for route in self.tls:
            _check_names(route.match, self.hosts)


def _http_stand_in(rule: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Answer recognizable matches with 500. If no match is valid, match nothing."""
    kept: dict[str, Any] = {"directResponse": {"status": 500}}
    if isinstance(rule.get("name"), str):
        kept["name"] = rule["name"]
    if rule.get("match"):
        kept["match"] = _matches_in(rule, HTTPMatch) or [{"gateways": [_NOBODY]}]
    return kept


_UNUSED = [{"destination": {"host": "refused"}}]
"""Destinations of an invalid rule's stand-in, which are never resolved."""


def _tcp_stand_in(rule: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {"route": _UNUSED}
    if rule.get("match"):
        kept["match"] = _matches_in(rule, TCPMatch) or [{"gateways": [_NOBODY]}]
    return kept


def _tls_stand_in(rule: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    hosts = _hosts_in(spec)
    matches = [it for it in _matches_in(rule, TLSMatch) if all(_is_covered(name, hosts) for name in it["sniHosts"])]
    return {"route": _UNUSED, "match": matches or [{"sniHosts": list(hosts[:1]), "gateways": [_NOBODY]}]}


def _check_tls(rule: TLSRoute, spec: Mapping[str, Any]) -> None:
    _check_names(rule.match, _hosts_in(spec))


def _hosts_in(spec: Mapping[str, Any]) -> tuple[str, ...]:
    hosts = spec.get("hosts")
    return tuple(it for it in hosts if isinstance(it, str)) if isinstance(hosts, list) else ()


def _matches_in(rule: Mapping[str, Any], kind: type[Struct]) -> list[Any]:
    matches = rule.get("match")
    return [it for it in matches if decodes(it, kind)] if isinstance(matches, list) else []


class VirtualService(Ruled, frozen=True):
    rule_lists: ClassVar[Mapping[str, RuleList]] = {
        "http": http_rules(HTTPRoute, _http_stand_in),
        "tls": l4_rules(TLSRoute, _tls_stand_in, _check_tls),
        "tcp": l4_rules(TCPRoute, _tcp_stand_in),
    }

    metadata: Metadata
    spec: VirtualServiceSpec


def check_host(field: str, host: str) -> None:
    """Accept a name, `*.` and a name, `*`, or an address. Raises ValueError."""
    if host != "*" and not _HOST(host) and not is_ip(host):
        raise ValueError(f"{field}: {host!r} is not a host such as reviews, reviews.example.com or *.example.com")


def _check_names(matches: tuple[TLSMatch, ...], hosts: tuple[str, ...]) -> None:
    for name in (name for match in matches for name in match.sni_hosts):
        if not _is_covered(name, hosts):
            raise ValueError(f"sniHosts: {name!r} is not covered by the object's hosts: add it to hosts")


def _is_covered(name: str, hosts: tuple[str, ...]) -> bool:
    return any(_covers(host, name) for host in hosts)


def _covers(wide: str, narrow: str) -> bool:
    wide, narrow = wide.lower(), narrow.lower()
    return wide in {"*", narrow} or "." not in wide or (wide.startswith("*") and narrow.endswith(wide[1:]))


def words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
