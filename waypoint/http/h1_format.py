"""Format HTTP/1.1 messages (RFC 9112) in canonical form.

Raises Unwritable if something in a head would end it early.
"""

from policies.attributes import Headers, RepeatedHeaders, RequestHead, ResponseHead
from policies.decimals import decimal
from policies.last_look import (
    IN_BODILESS_RESPONSES,
    IN_RESPONSES,
    KNOWN_NAMES,
    NOTHING,
    check_fields,
    check_target,
    line_of,
)
from waypoint.http.events import EMPTY, Body

_REASONS = {
    100: b"Continue", 101: b"Switching Protocols", 103: b"Early Hints",
    200: b"OK", 201: b"Created", 202: b"Accepted", 204: b"No Content", 206: b"Partial Content",
    301: b"Moved Permanently", 302: b"Found", 303: b"See Other", 304: b"Not Modified",
    307: b"Temporary Redirect", 308: b"Permanent Redirect",
    400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
    408: b"Request Timeout", 409: b"Conflict", 413: b"Content Too Large", 417: b"Expectation Failed",
    426: b"Upgrade Required", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable",
    504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
}  # fmt: skip
_STATUS_LINES = {status: b"HTTP/1.1 %d %b" % (status, reason) for status, reason in _REASONS.items()}
_END_OF_HEAD = b"\r\n\r\n"


def format_request(head: RequestHead, body: Body) -> bytes:
    """Format a request's head. An upgrade request has an opaque body."""
    method, target, authority = head.method, head.target, head.authority
    check_target(method, target, authority)
    parts = [method, b" ", target, b" HTTP/1.1\r\nhost: ", authority]
    return _format(parts, head.headers, head.repeated, body, NOTHING)


def format_response(head: ResponseHead, body: Body, closes: bool) -> bytes:
    parts = [_STATUS_LINES.get(head.status) or b"HTTP/1.1 %d " % head.status]
    if closes:
        parts.append(b"\r\nconnection: close")
    return _format(parts, head.headers, head.repeated, body, IN_BODILESS_RESPONSES if body.is_empty else IN_RESPONSES)


def format_response_http10(head: ResponseHead, body: Body, closes: bool) -> bytes:
    """Format a response for HTTP/1.0, without chunks: if the length is unknown, the connection's end ends the body."""
    line = b"HTTP/1.0 %d %b\r\nconnection: %b"
    parts = [line % (head.status, _REASONS.get(head.status, b""), b"close" if closes else b"keep-alive")]
    written = EMPTY if body.length is None else body
    allowed = IN_BODILESS_RESPONSES if body.is_empty else IN_RESPONSES
    return _format(parts, head.headers, head.repeated, written, allowed)


def _format(
    parts: list[bytes], headers: Headers, repeated: RepeatedHeaders | None, body: Body, allowed: frozenset[bytes]
) -> bytes:
    """Format a head that begins with `parts`, which need no check. Headers that are repeated are checked once."""
    if repeated is not None and headers[: len(repeated.headers)] == repeated.headers:
        if repeated.allowed is not allowed:
            repeated.wire = _format_fields(repeated.headers, allowed)
            repeated.allowed = allowed
        parts.append(repeated.wire)
        headers = headers[len(repeated.headers) :]
    parts.append(_format_fields(headers, allowed))
    if body.is_opaque:
        parts.append(b"\r\nconnection: upgrade\r\nupgrade: websocket")
    elif not body.is_empty:
        if body.length is None:
            parts.append(b"\r\ntransfer-encoding: chunked")
        else:
            parts.append(b"\r\ncontent-length: ")
            parts.append(decimal(body.length))
    parts.append(_END_OF_HEAD)
    return b"".join(parts)


def _format_fields(headers: Headers, allowed: frozenset[bytes]) -> bytes:
    """Format header lines, each with a line end before it."""
    check_fields(headers, allowed)
    parts: list[bytes] = []
    lines: dict[bytes, bytes] = KNOWN_NAMES
    for name, value in headers:
        line = lines.get(name)
        parts.append(line_of(name) if line is None else line)
        parts.append(value)
    return b"".join(parts)


def format_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def format_last_chunk(trailers: Headers) -> bytes:
    if not trailers:
        return b"0\r\n\r\n"
    check_fields(trailers)
    return b"\r\n".join([b"0", *map(b": ".join, trailers), b"\r\n"])
