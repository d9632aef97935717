"""Common schemas of the Gateway API's routes (gateway.networking.k8s.io, v1.6), validated like the API server does.

https://gateway-api.sigs.k8s.io/reference/spec/. Types define what a field may contain; `__post_init__` checks the rest
and explains errors. Unsupported fields are included, so that the compiler can report them instead of ignoring them.
Validation is slightly stricter than the API server's: it rejects text that could corrupt a message, and expressions
that RE2 does not support.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from l4.config.durations import Duration, seconds_of
from l4.discovery.objects import PortNumber
from policies import wire_text
from policies.matching import Regex
from waypoint.config.api_fields import (
    Group,
    HeaderName,
    Kind,
    Namespace,
    ObjectName,
    ParamName,
    PreciseHostname,
    SectionName,
    Weight,
    is_path,
    repeated,
)

_ORIGIN = re.compile(r"\*|https?://(\*|(\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+)(:[0-9]{1,5})?").fullmatch
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_|~`]+").fullmatch
_FIELDS = {"URLRewrite": "urlRewrite", "CORS": "cors"}

MatchType = Literal["Exact", "RegularExpression"]
Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
AnyMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"]
HeaderNames = Annotated[tuple[HeaderName, ...], Meta(max_length=64)]


# -- references ----------------------------------------------------------------------------------------------------


class ParentRef(Struct, frozen=True, rename="camel"):
    name: ObjectName
    group: Group = "gateway.networking.k8s.io"
    kind: Kind = "Gateway"
    namespace: Namespace | None = None
    port: PortNumber | None = None
    section_name: SectionName | None = None


class LocalRef(Struct, frozen=True):
    name: ObjectName
    kind: Kind
    group: Group = ""


class BackendObjectRef(Struct, frozen=True):
    """A reference of mirrors and external authorization. A Service needs a port."""

    name: ObjectName
    group: Group = ""
    kind: Kind = "Service"
    namespace: Namespace | None = None
    port: PortNumber | None = None

    def __post_init__(self) -> None:
        if self.port is None and (self.group, self.kind) == ("", "Service"):
            raise ValueError(f"Service {self.name} needs a port: add one of the Service's port numbers")


class PlainBackendRef(BackendObjectRef, frozen=True):
    """A backend of a TCPRoute or TLSRoute."""

    weight: Weight = 1


# -- matches -------------------------------------------------------------------------------------------------------


class HeaderMatch(Struct, frozen=True):
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]
    type: MatchType = "Exact"

    def __post_init__(self) -> None:
        if self.type == "RegularExpression":
            Regex.parse(self.value)


class QueryParamMatch(Struct, frozen=True):
    name: ParamName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]
    type: MatchType = "Exact"

    def __post_init__(self) -> None:
        if self.type == "RegularExpression":
            Regex.parse(self.value)


# -- filters -------------------------------------------------------------------------------------------------------


class HeaderValue(Struct, frozen=True):
    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]

    def __post_init__(self) -> None:
        if self.name.lower() == "host":
            wire_text.authority(self.value)
        wire_text.header_value(self.value)


class HeaderModifier(Struct, frozen=True):
    """Setting `Host` rewrites the authority. A request has exactly one, so it cannot be added or removed."""

    set: Annotated[tuple[HeaderValue, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[HeaderValue, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[HeaderName, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        for names in ([it.name for it in self.set], [it.name for it in self.add], list(self.remove)):
            lowered = [name.lower() for name in names]
            if (name := repeated(lowered)) is not None:
                raise ValueError(f"{name} is repeated; names are case-insensitive, so keep one of them")
            for name in lowered:
                if name != "host":
                    wire_text.header_name(name)
        if "host" in {name.lower() for name in (*self.remove, *(it.name for it in self.add))}:
            raise ValueError("Host can be set, but neither added nor removed: a request has exactly one")


class PathModifier(Struct, frozen=True, rename="camel"):
    """An empty prefix removes the matched one."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None

    def __post_init__(self) -> None:
        _check_variant(
            self.type,
            {"ReplaceFullPath": self.replace_full_path, "ReplacePrefixMatch": self.replace_prefix_match},
        )
        path = self.replace_full_path or self.replace_prefix_match
        if path and not is_path(path):
            raise ValueError(
                f"{path!r} is not a path: it must begin with /, and spaces, ? and # must be escaped as %20, %3F, %23"
            )


class RequestRedirect(Struct, frozen=True, rename="camel"):
    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None
    port: PortNumber | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class URLRewrite(Struct, frozen=True):
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None


class Fraction(Struct, frozen=True):
    numerator: Annotated[int, Meta(ge=0)]
    denominator: Annotated[int, Meta(ge=1)] = 100

    def __post_init__(self) -> None:
        if self.numerator > self.denominator:
            raise ValueError(f"{self.numerator}/{self.denominator} is more than 1: lower the numerator")


class RequestMirror(Struct, frozen=True, rename="camel"):
    """Without percent and fraction, every request is mirrored."""

    backend_ref: BackendObjectRef
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None

    def __post_init__(self) -> None:
        if self.percent is not None and self.fraction is not None:
            raise ValueError("percent and fraction exclude each other: keep one of them")


class CORS(Struct, frozen=True, rename="camel"):
    allow_origins: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...], Meta(max_length=64)] = ()
    allow_credentials: bool = False
    allow_methods: Annotated[tuple[AnyMethod, ...], Meta(max_length=9)] = ()
    allow_headers: HeaderNames = ()
    expose_headers: HeaderNames = ()
    max_age: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 5

    def __post_init__(self) -> None:
        for origin in self.allow_origins:
            if not _ORIGIN(origin):
                raise ValueError(
                    f"allowOrigins: {origin!r} is not an origin, such as https://a.com, https://*.a.com:8443 or *"
                )
        alone = (
            ("allowOrigins", self.allow_origins),
            ("allowMethods", self.allow_methods),
            ("allowHeaders", self.allow_headers),
        )
        for name, values in alone:
            if "*" in values and len(values) > 1:
                raise ValueError(f"{name}: * includes all values; remove the others or the *")
        for name, values in (*alone, ("exposeHeaders", self.expose_headers)):
            if (value := repeated(values)) is not None:
                raise ValueError(f"{name}: {value} is repeated; keep one of them")


class GRPCAuth(Struct, frozen=True, rename="camel"):
    allowed_headers: HeaderNames = ()


class HTTPAuth(Struct, frozen=True, rename="camel"):
    path: Annotated[str, Meta(max_length=1024)] = ""
    allowed_headers: HeaderNames = ()
    allowed_response_headers: HeaderNames = ()

    def __post_init__(self) -> None:
        if self.path and not is_path(self.path):
            raise ValueError(f"path: {self.path!r} is not a path; it must begin with / and contain no spaces, ? or #")


class ForwardBody(Struct, frozen=True, rename="camel"):
    max_size: Annotated[int, Meta(ge=0, le=65535)] = 0


class ExternalAuth(Struct, frozen=True, rename="camel"):
    protocol: Literal["HTTP", "GRPC"]
    backend_ref: BackendObjectRef
    grpc: GRPCAuth | None = None
    http: HTTPAuth | None = None
    forward_body: ForwardBody | None = None

    def __post_init__(self) -> None:
        for name, value in (("GRPC", self.grpc), ("HTTP", self.http)):
            if (self.protocol == name) != (value is not None):
                remedy = f"add {name.lower()}, at least {{}}" if value is None else f"remove {name.lower()}"
                raise ValueError(f"protocol is {self.protocol}: {remedy}")


FilterType = Literal[
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "CORS",
    "ExternalAuth",
    "ExtensionRef",
]


class Filter(Struct, frozen=True, rename="camel"):
    type: FilterType
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_mirror: RequestMirror | None = None
    request_redirect: RequestRedirect | None = None
    url_rewrite: URLRewrite | None = None
    cors: CORS | None = None
    external_auth: ExternalAuth | None = None
    extension_ref: LocalRef | None = None

    def __post_init__(self) -> None:
        _check_variant(
            self.type,
            {
                "RequestHeaderModifier": self.request_header_modifier,
                "ResponseHeaderModifier": self.response_header_modifier,
                "RequestMirror": self.request_mirror,
                "RequestRedirect": self.request_redirect,
                "URLRewrite": self.url_rewrite,
                "CORS": self.cors,
                "ExternalAuth": self.external_auth,
                "ExtensionRef": self.extension_ref,
            },
        )


Filters = Annotated[tuple[Filter, ...], Meta(max_length=16)]


def check_filters(filters: Iterable[Filter]) -> None:
    """Check the filters of one list together. Raises ValueError."""
    types = [it.type for it in filters if it.type not in {"RequestMirror", "ExtensionRef"}]
    if (kind := repeated(types)) is not None:
        raise ValueError(f"{kind} is repeated in one list of filters; combine them")
    if {"RequestRedirect", "URLRewrite"} <= set(types):
        raise ValueError(
            "RequestRedirect and URLRewrite exclude each other, because a redirect goes to no backend: keep one"
        )


class BackendRef(PlainBackendRef, frozen=True):
    """A backend of an HTTPRoute or GRPCRoute."""

    filters: Filters = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_filters(self.filters)


# -- rules ---------------------------------------------------------------------------------------------------------


class Timeouts(Struct, frozen=True, rename="camel"):
    request: Duration | None = None
    backend_request: Duration | None = None

    def __post_init__(self) -> None:
        request, attempt = seconds_of(self.request), seconds_of(self.backend_request)
        if request is not None and attempt is not None and attempt > request:
            raise ValueError(f"backendRequest {self.backend_request} must not be longer than request {self.request}")


class CookieConfig(Struct, frozen=True, rename="camel"):
    lifetime_type: Literal["Session", "Permanent"] = "Session"


class SessionPersistence(Struct, frozen=True, rename="camel"):
    session_name: Annotated[str, Meta(max_length=128)] | None = None
    absolute_timeout: Duration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie_config: CookieConfig | None = None

    def __post_init__(self) -> None:
        if self.session_name and not _TOKEN(self.session_name):
            raise ValueError(
                f"sessionName: {self.session_name!r} is not a valid cookie or header name; use letters and -"
            )
        if self.session_name and self.type == "Header":
            wire_text.header_name(self.session_name)
        if self.cookie_config is None:
            return
        if self.type == "Header":
            raise ValueError("cookieConfig applies only to sessions of type Cookie: remove it, or change the type")
        if self.cookie_config.lifetime_type == "Permanent" and seconds_of(self.absolute_timeout) is None:
            raise ValueError("a Permanent cookie needs an absoluteTimeout above 0, which sets its lifetime")


def check_parents(refs: tuple[ParentRef, ...]) -> None:
    """A route may name a parent once, or once per port. Raises ValueError."""
    sections: dict[tuple[str, str, str | None, str], list[tuple[str | None, int | None]]] = {}
    for ref in refs:
        parent = (ref.group, ref.kind, ref.namespace, ref.name)
        sections.setdefault(parent, []).append((ref.section_name, ref.port))
    for (_, kind, _, name), named in sections.items():
        if len({(section is None, port is None) for section, port in named}) > 1:
            raise ValueError(
                f"parentRefs: {kind} {name} appears with and without sectionName or port; use the same form"
            )
        if len(set(named)) < len(named):
            raise ValueError(f"parentRefs: {kind} {name} is repeated; give each reference its own sectionName or port")


def check_rule_names(names: Iterable[str | None]) -> None:
    if (name := repeated(name for name in names if name is not None)) is not None:
        raise ValueError(f"rules: two rules have the name {name}; rename one")


def stand_in(rule: Mapping[str, Any], match_kind: type[Struct]) -> dict[str, Any]:
    """For an invalid rule: keep its valid matches. If it has matches but none is valid, it matches nothing."""
    name, matches = rule.get("name"), rule.get("matches") or [{}]
    kept = [it for it in matches if decodes(it, match_kind)] if isinstance(matches, list) else []
    return {"matches": kept[:64], **({"name": name} if decodes(name, SectionName) else {})}


def decodes(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def check_matches(counts: Iterable[int]) -> None:
    if (count := sum(counts)) > 128:
        raise ValueError(f"rules: {count} matches exceed the limit of 128 per route; split the route")


def _check_variant(kind: str, values: dict[str, object]) -> None:
    """Exactly the field for this type must be set. Raises ValueError."""
    for name, value in values.items():
        if (kind == name) != (value is not None):
            field = _FIELDS.get(name) or name[0].lower() + name[1:]
            raise ValueError(f"type is {kind}: " + (f"add {field}" if value is None else f"remove {field}"))
