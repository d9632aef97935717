"""Compile the actions of a VirtualService's HTTP route: edits, rewrites, redirects, retries, faults and CORS.

Text that is not valid in a message raises Refused, which names the field within the rule.
"""

from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from l4.config.durations import seconds_of
from policies import wire_text
from policies.cors import Cors, OriginPattern
from policies.fault import Abort, Delay, Fault
from policies.grpc_status import CODES, HTTP_STATUSES
from policies.header_format import FormattedHeader, HeaderFormat
from policies.matching import Regex
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
from policies.wire_text import Authority, Field, HeaderName, HeaderValue, Query
from waypoint.config.istio import virtual_service as api
from waypoint.config.istio.virtual_matches import string_match

_DEFAULT_RETRY_ON = frozenset(
    {
        Condition.CONNECT_FAILURE,
        Condition.REFUSED_STREAM,
        Condition.GRPC_UNAVAILABLE,
        Condition.GRPC_CANCELLED,
        Condition.RETRIABLE_STATUS_CODES,
    }
)
_AUTHORITIES = frozenset({"host", ":authority"})
_PORT_SOURCES = {
    None: PortSource.HOST,
    "FROM_REQUEST_PORT": PortSource.LISTENER,
    "FROM_PROTOCOL_DEFAULT": PortSource.SCHEME,
}


@dataclass
class Refused(Exception):
    """`sentence` explains the error in `field`, a position in the rule."""

    field: str
    sentence: str


@contextmanager
def _in(field: str) -> Iterator[None]:
    """Convert ValueError into Refused with this field."""
    try:
        yield
    except ValueError as error:
        raise Refused(field, str(error)) from None


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


def rewrite_of(rewrite: api.Rewrite, prefix: bytes | None) -> UrlRewrite:
    """Compile a rewrite. `prefix` is the matched prefix that it replaces, or None for the whole path."""
    edit, query = _target("rewrite", rewrite.uri, rewrite.uri_regex_rewrite, prefix)
    return UrlRewrite(_authority("rewrite.authority", rewrite.authority), edit, query)


def redirect_of(redirect: api.Redirect, prefix: bytes | None) -> Redirect:
    """Compile a redirect. `prefix` is as for a rewrite."""
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


def body_of(body: api.DirectBody | None) -> bytes:
    """Return the body of a direct response."""
    if body is None:
        return b""
    return body.string.encode() if body.string is not None else b64decode(body.bytes or "")


def edits_of(place: str, headers: api.Headers) -> tuple[HeaderEdit | None, HeaderEdit | None]:
    """Return the header edits of a request and of its response, which has no authority."""
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


def retry_of(retries: api.Retries) -> RetryPolicy:
    """Compile retries."""
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


def fault_of(fault: api.Fault) -> Fault:
    """Compile a fault. Without a percentage, it never happens."""
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
    """Without a percentage, the probability is 0."""
    return (percentage.value if percentage.value or percent is None else percent) / 100


def cors_of(cors: api.CorsPolicy) -> Cors:
    """Compile a CORS policy."""
    lists = (("allowMethods", cors.allow_methods), ("allowHeaders", cors.allow_headers))
    methods, headers, expose = (
        tuple(_tokens(f"corsPolicy.{name}", values))
        for name, values in (*lists, ("exposeHeaders", cors.expose_headers))
    )
    origins = (OriginPattern(b"*") if it.exact == "*" else string_match(it) for it in cors.allow_origins)
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
    """Header names become lower-case; methods are unchanged."""
    for value in values:
        with _in(place):
            yield wire_text.token(value if place.endswith("Methods") else value.lower())
