"""Build the canonical head, or reject the message. Policies and routing see exactly what is forwarded.

Everything that two programs could interpret differently is decided here, before any policy: the message's destination
(authority, path), its end (framing), and which headers are hop-by-hop and not forwarded (RFC 9110 7.6.1). Paths are
normalized like Istio's BASE, unless a setting says otherwise (`policies.path_normalization`).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import product

from policies.attributes import Header, Headers, RequestHead, ResponseHead
from policies.last_look import may_remember
from policies.path_normalization import PathNormalization
from waypoint.errors import BadRequest, UpstreamProtocolError
from waypoint.http.events import EMPTY, STREAMED, Body
from waypoint.http.settings import HttpSettings

_DEFAULTS = HttpSettings()
_BLANK = 0x20
_MAX_KNOWN_HOST = 255
_NAME = rb"[A-Za-z0-9\-_~]+(?:\.[A-Za-z0-9\-_~]+)*"
_HOST = re.compile(rb"(%b|\[[0-9A-Fa-f:.]+\])\.?(:[0-9]{1,5})?" % _NAME).fullmatch
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL).fullmatch
_ONLY_USUAL = bytes(byte if 0x21 <= byte <= 0x7E and byte not in b"%\\#" else 0x21 for byte in range(256))
"""Replaces the bytes for which a path is normalized."""
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}").fullmatch
_NORMALIZATIONS = {
    mode: PathNormalization(mode) for mode in ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
}

# Headers that carry identity or come from a neighbouring proxy: never accepted from clients or sent to applications.
_NEVER_FORWARDED = frozenset(
    {
        b"keep-alive",
        b"proxy-connection",
        b"http2-settings",
        b"x-envoy-peer-metadata",
        b"x-envoy-peer-metadata-id",
        b"x-envoy-attempt-count",
        b"x-envoy-expected-rq-timeout-ms",
        b"x-forwarded-client-cert",
    }
)
# The methods that the HTTP/1.1 parser knows (IANA's list, without RTSP). Policies compare methods case-sensitively
# and some applications do not, so other spellings are rejected. The setting `extra_methods` adds methods.
_METHODS = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"QUERY", b"PURGE", b"LINK", b"UNLINK"}
    | {b"COPY", b"LOCK", b"MKCOL", b"MOVE", b"PROPFIND", b"PROPPATCH", b"SEARCH", b"UNLOCK", b"ACL", b"REPORT"}
    | {b"BIND", b"REBIND", b"UNBIND", b"MKACTIVITY", b"CHECKOUT", b"MERGE", b"MKCALENDAR", b"SOURCE"}
    | {b"M-SEARCH", b"NOTIFY", b"SUBSCRIBE", b"UNSUBSCRIBE"}
)
_WORKLOAD_BAGGAGE = (b"k8s.", b"service.name", b"service.version", b"app.name", b"app.version")
# Headers that configure this proxy: `policies.overrides`.
_OVERRIDES = frozenset(
    {
        b"x-envoy-retry-on",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-max-retries",
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retriable-header-names",
        b"x-envoy-upstream-rq-timeout-ms",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
        b"x-envoy-hedge-on-per-try-timeout",
    }
)


def _with_underscores(names: Iterable[bytes]) -> frozenset[bytes]:
    """Return the names with one or more hyphens replaced by underscores."""
    spellings = (
        b"".join(part + joint for part, joint in zip(parts, (*joints, b""), strict=True))
        for parts in (name.split(b"-") for name in names)
        for joints in product((b"-", b"_"), repeat=len(parts) - 1)
    )
    return frozenset(spelling for spelling in spellings if b"_" in spelling)


# CGI and its successors do not distinguish `-` and `_`, so these would be read as the removed headers.
_DISGUISED = _with_underscores({*_NEVER_FORWARDED, b"content-length", b"transfer-encoding"})
_REQUEST_SPECIAL = (
    _NEVER_FORWARDED
    | _DISGUISED
    | _OVERRIDES
    | {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"te",
        b"upgrade",
        b"expect",
        b"x-request-id",
        b"baggage",
    }
)
_RESPONSE_SPECIAL = _NEVER_FORWARDED | {
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"upgrade",
    b"server",  # the proxy sets its own
    b"x-envoy-upstream-service-time",
}
ORDINARY_OF_REQUESTS: dict[bytes, bytes] = {}
"""Names that have no special meaning, as clients spell them, with their canonical form."""
ORDINARY_OF_RESPONSES: dict[bytes, bytes] = {}
# Connection must not remove these. `te` is listed there legitimately, and is handled separately.
_NOT_NOMINABLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization"})
_NOT_NOMINABLE_PREFIXES = (b":", b"x-forwarded-")


def canonical_request(
    method: bytes, target: bytes, raw: list[Header], settings: HttpSettings = _DEFAULTS
) -> tuple[RequestHead, Body]:
    """Return the canonical head from a method, a target and raw fields. Raises BadRequest."""
    if method not in _METHODS and method not in settings.extra_method_names:
        raise _unknown_method(method)
    if settings.headers_with_underscores != "keep":
        raw = _without_underscores(raw, settings)
    headers: Headers = []
    host: bytes | None = None
    body = EMPTY
    nominated: bytes = b""
    has_request_id = False
    overrides: Headers | None = None
    known: dict[bytes, bytes] = ORDINARY_OF_REQUESTS
    spelled: bytes
    value: bytes
    for spelled, value in raw:
        if value and value[-1] <= _BLANK:
            value = value.rstrip(b" \t")
        ordinary = known.get(spelled)
        if ordinary is not None:
            headers.append((ordinary, value))
            continue
        name = spelled.lower()
        if name not in _REQUEST_SPECIAL:
            headers.append((name, value))
            if may_remember(spelled, known):
                known[spelled] = name
        elif name == b"host":
            if host is not None:
                raise BadRequest("http1.duplicate_host")
            host = value
        elif name == b"content-length":
            body = Body(_length(value))
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise BadRequest("http1.invalid_transfer_encoding", status=501)
            body = STREAMED
        elif name == b"connection":
            nominated = b"%b,%b" % (nominated, value) if nominated else value
        elif name == b"te":
            if value == b"trailers" or b"trailers" in value.lower():
                headers.append((name, b"trailers"))
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise BadRequest("expectation_failed", status=417)
            headers.append((name, value))
        elif name == b"x-request-id" and not has_request_id and _REQUEST_ID(value):
            has_request_id = True
            headers.append((name, value))
        elif name == b"baggage":
            if kept := _without_workload(value):
                headers.append((name, kept))
        elif name in _OVERRIDES:
            overrides = [*(overrides or ()), (name, value)]
    if nominated:
        headers = _without_nominated(headers, _nominated(nominated, settings.nominated_headers))
    if not target.startswith(b"/"):
        target, host = _other_form(method, target, host)
    if not host:
        raise BadRequest("missing_host_header")
    host = _known_host(host) if len(host) <= _MAX_KNOWN_HOST else _canonical_host(host)
    path, question, query = target.partition(b"?")
    if target.translate(_ONLY_USUAL) != target or target.find(b"/.") >= 0 or target.find(b"//") >= 0:
        path, question, query = _normal_target(target, settings.path_normalization)
    return RequestHead(method, host, path, query, headers, bool(question), b"", overrides), body


def canonical_response(status: int, raw: list[Header], request_method: bytes) -> tuple[ResponseHead, Body, bool]:
    """Return the canonical head, the body, and whether it is chunked. Raises UpstreamProtocolError."""
    if not 100 <= status <= 599:
        raise UpstreamProtocolError(f"the response has status {status}")
    headers: Headers = []
    length: int | None = None
    is_chunked = False
    nominated: bytes = b""
    known: dict[bytes, bytes] = ORDINARY_OF_RESPONSES
    spelled: bytes
    value: bytes
    for spelled, value in raw:
        if value and value[-1] <= _BLANK:
            value = value.rstrip(b" \t")
        ordinary = known.get(spelled)
        if ordinary is not None:
            headers.append((ordinary, value))
            continue
        name = spelled.lower()
        if name not in _RESPONSE_SPECIAL:
            headers.append((name, value))
            if may_remember(spelled, known):
                known[spelled] = name
        elif name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                raise UpstreamProtocolError(f"content-length {value!r}")
            length = int(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or is_chunked:
                raise UpstreamProtocolError(f"transfer-encoding {value!r}")
            is_chunked = True
        elif name == b"connection":
            nominated = b"%b,%b" % (nominated, value) if nominated else value
    if nominated:
        headers = _without_nominated(headers, _tokens(nominated))
    if status < 200 and (length or is_chunked):
        raise UpstreamProtocolError(f"a {status} response with a body")
    if request_method == b"HEAD" or status in {204, 304}:
        if length is not None and status >= 200 and status != 204:
            headers.append((b"content-length", b"%d" % length))
        return ResponseHead(status, headers), EMPTY, is_chunked
    return ResponseHead(status, headers), Body(length), is_chunked


def _unknown_method(method: bytes) -> BadRequest:
    if method == b"TRACE":  # its response would reveal to scripts what browsers hide from them
        return BadRequest("http1.method_not_allowed", status=405)
    return BadRequest("http1.invalid_method_encountered")


def _without_underscores(raw: list[Header], settings: HttpSettings) -> list[Header]:
    kept = [header for header in raw if b"_" not in header[0]]
    if len(kept) < len(raw) and settings.headers_with_underscores == "reject":
        raise BadRequest("http1.unexpected_underscore", limit="headers_with_underscores")
    return kept


def _without_workload(baggage: bytes) -> bytes:
    """Remove baggage members that describe a workload to other proxies."""
    members = (member.strip(b" \t") for member in baggage.split(b","))
    return b",".join(it for it in members if it and not it.lower().startswith(_WORKLOAD_BAGGAGE))


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise BadRequest("http1.invalid_content_length")
    return int(value)


def _tokens(connection: bytes) -> set[bytes]:
    return {token.strip(b" \t").lower() for token in connection.split(b",")} - {b"te"}


def _nominated(connection: bytes, most: int) -> set[bytes]:
    """Return the names in a client's Connection header. Raises BadRequest if it must not name one of them."""
    if connection.count(b",") >= most:
        raise BadRequest("connection_header_sanitization", limit="nominated_headers")
    names = _tokens(connection)
    if not _NOT_NOMINABLE.isdisjoint(names) or any(name.startswith(_NOT_NOMINABLE_PREFIXES) for name in names):
        raise BadRequest("connection_header_sanitization")
    return names


def _without_nominated(headers: Headers, names: set[bytes]) -> Headers:
    if names.isdisjoint(name for name, _ in headers):
        return headers
    return [header for header in headers if header[0] not in names]


def _other_form(method: bytes, target: bytes, host: bytes | None) -> tuple[bytes, bytes | None]:
    """Parse the absolute form, whose authority overrides Host (RFC 9112 3.2.2), or `*` for OPTIONS."""
    if target == b"*" and method == b"OPTIONS":
        return target, host
    absolute = _ABSOLUTE(target)
    if absolute is None:
        raise BadRequest("http1.invalid_target")
    authority, rest = absolute.groups()
    return (rest if rest[:1] == b"/" else b"/" + rest), authority


def _canonical_host(host: bytes) -> bytes:
    """Return the host in lower case and without a trailing dot."""
    match = _HOST(host)
    if match is None:
        raise BadRequest("invalid_host_header")
    name, port = match.groups(b"")
    return name.lower() + port


_known_host = lru_cache(maxsize=256)(_canonical_host)


def _normal_target(target: bytes, normalization: str) -> tuple[bytes, bytes, bytes]:
    target = target.partition(b"#")[0]
    if any(byte <= 0x20 or byte >= 0x7F for byte in target):
        raise BadRequest("path_normalization_failed")
    path, question, query = target.partition(b"?")
    return normal_path(path, normalization), question, query


def normal_path(path: bytes, normalization: str = "BASE") -> bytes:
    """Normalize a path according to the setting `path_normalization`. Raises BadRequest if it is ambiguous."""
    try:
        return _NORMALIZATIONS[normalization].of_request(path)
    except ValueError:
        raise BadRequest("path_normalization_failed") from None
