"""Makes the one canonical head, or refuses: what routing and policies see is what is forwarded, byte for byte.

Everything that two programs could read differently is settled here, before any decision: where the message goes
(authority, path), where it ends (framing), and which headers concern one hop only and stay behind (RFC 9110 7.6.1).
Paths are normalised as Istio's BASE does: dot segments are removed after unreserved characters are decoded, a
backslash is a slash, escaped slashes and doubled slashes stay.
"""

import re

from policies.attributes import Header, Headers, RequestHead, ResponseHead
from waypoint.errors import BadRequest, UpstreamProtocolError
from waypoint.http.events import EMPTY, STREAMED, Body

_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL).fullmatch
_UNUSUAL_PATH = re.compile(rb"[%\\#]|/\.|[^\x21-\x7e]").search
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

# Claims of identity or of a neighbouring proxy: never from a client, never to an application.
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
_REQUEST_SPECIAL = _NEVER_FORWARDED | {
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"te",
    b"upgrade",
    b"expect",
}
_RESPONSE_SPECIAL = _NEVER_FORWARDED | {
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"upgrade",
    b"server",  # the proxy says its own
    b"x-envoy-upstream-service-time",
}
# A client may not use Connection to take these away from us or from the application.
_NOT_NOMINABLE = frozenset(
    {b"host", b"content-length", b"authorization", b"te", b"transfer-encoding", b"x-forwarded-for"}
    | {b"x-forwarded-host", b"x-forwarded-proto"}
)


def canonical_request(method: bytes, target: bytes, raw: list[Header]) -> tuple[RequestHead, Body]:
    """The head of an HTTP/1.1 request from the fields of its head, names in any case. Raises BadRequest."""
    headers: Headers = []
    host: bytes | None = None
    body = EMPTY
    nominated: bytes = b""
    for name, value in raw:
        name = name.lower()
        if value[-1:] in b" \t":
            value = value.rstrip(b" \t")
        if name not in _REQUEST_SPECIAL:
            headers.append((name, value))
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
            if b"trailers" in value.lower():
                headers.append((name, b"trailers"))
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise BadRequest("expectation_failed", status=417)
            headers.append((name, value))
    if nominated:
        headers = _without_nominated(headers, nominated)
    if target[:1] != b"/":
        target, host = _other_form(method, target, host)
    if not host:
        raise BadRequest("missing_host_header")
    if not _HOST(host):
        raise BadRequest("invalid_host_header")
    path, question, query = target.partition(b"?")
    if _UNUSUAL_PATH(target):
        path, question, query = _normal_target(target)
    return RequestHead(method, host, path, query, headers, bool(question)), body


def canonical_response(status: int, raw: list[Header], request_method: bytes) -> tuple[ResponseHead, Body, bool]:
    """The head of an HTTP/1.1 response, its body, and whether that is chunked. Raises UpstreamProtocolError."""
    headers: Headers = []
    length: int | None = None
    is_chunked = False
    nominated: bytes = b""
    for name, value in raw:
        name = name.lower()
        if value[-1:] in b" \t":
            value = value.rstrip(b" \t")
        if name not in _RESPONSE_SPECIAL:
            headers.append((name, value))
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
        headers = _without_nominated(headers, nominated)
    if request_method == b"HEAD" or status in {204, 304}:
        if length is not None and status != 204:
            headers.append((b"content-length", b"%d" % length))
        return ResponseHead(status, headers), EMPTY, is_chunked
    return ResponseHead(status, headers), Body(length), is_chunked


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise BadRequest("http1.invalid_content_length")
    return int(value)


def _without_nominated(headers: Headers, connection: bytes) -> Headers:
    names = {token.strip(b" \t").lower() for token in connection.split(b",")} - _NOT_NOMINABLE
    if names.isdisjoint(name for name, _ in headers):
        return headers
    return [header for header in headers if header[0] not in names]


def _other_form(method: bytes, target: bytes, host: bytes | None) -> tuple[bytes, bytes | None]:
    """Absolute form, whose authority wins over Host (RFC 9112 3.2.2), or `*` for OPTIONS."""
    if target == b"*" and method == b"OPTIONS":
        return target, host
    absolute = _ABSOLUTE(target)
    if absolute is None:
        raise BadRequest("http1.invalid_target")
    authority, rest = absolute.groups()
    return (rest if rest[:1] == b"/" else b"/" + rest), authority


def _normal_target(target: bytes) -> tuple[bytes, bytes, bytes]:
    target = target.partition(b"#")[0]
    if any(byte <= 0x20 or byte >= 0x7F for byte in target):
        raise BadRequest("path_normalization_failed")
    path, question, query = target.partition(b"?")
    return normal_path(path), question, query


def normal_path(path: bytes) -> bytes:
    """Istio's BASE normalisation (RFC 3986 section 6.2.2 without merging slashes). Raises BadRequest for `%00`,
    and for escapes that turn up only when others are decoded."""
    if b"%" in path:
        path = _ESCAPE.sub(_decode_unreserved, path)
        # `%2%45` becomes `%2E`, which the next who decodes takes for a dot.
        if b"%00" in path or _ESCAPE.sub(_decode_unreserved, path) != path:
            raise BadRequest("path_normalization_failed")
    path = path.replace(b"\\", b"/")
    if b"/." not in path:
        return path
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in {b".", b".."}:
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _decode_unreserved(match: re.Match[bytes]) -> bytes:
    byte = int(match[1], 16)
    return bytes([byte]) if byte in _UNRESERVED else match[0].upper()
