"""Writes HTTP/1.1 messages (RFC 9112). What is written here is canonical: nothing in a head can end it early."""

from policies.attributes import Headers, RequestHead, ResponseHead
from waypoint.http.events import Body

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
    """The head of a request; one that asks to upgrade has an opaque body."""
    parts = [head.method, b" ", head.target, b" HTTP/1.1\r\nhost: ", head.authority]
    return _format(parts, head.headers, body)


def format_response(head: ResponseHead, body: Body, closes: bool) -> bytes:
    parts = [_STATUS_LINES.get(head.status) or b"HTTP/1.1 %d " % head.status]
    if closes:
        parts.append(b"\r\nconnection: close")
    return _format(parts, head.headers, body)


def _format(parts: list[bytes], headers: Headers, body: Body) -> bytes:
    """The head that begins with these parts."""
    for name, value in headers:
        parts += (b"\r\n", name, b": ", value)
    if body.is_opaque:
        parts.append(b"\r\nconnection: upgrade\r\nupgrade: websocket")
    elif not body.is_empty:
        if body.length is None:
            parts.append(b"\r\ntransfer-encoding: chunked")
        else:
            parts.append(b"\r\ncontent-length: %d" % body.length)
    parts.append(_END_OF_HEAD)
    return b"".join(parts)


def format_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def format_last_chunk(trailers: Headers) -> bytes:
    if not trailers:
        return b"0\r\n\r\n"
    return b"\r\n".join([b"0", *map(b": ".join, trailers), b"\r\n"])
