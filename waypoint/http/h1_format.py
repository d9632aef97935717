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


def format_request(head: RequestHead, body: Body) -> bytes:
    """The head of a request; one that asks to upgrade has an opaque body."""
    line = b"%b %b HTTP/1.1\r\nhost: %b" % (head.method, head.target, head.authority)
    return _format(line, head.headers, body)


def format_response(head: ResponseHead, body: Body, closes: bool) -> bytes:
    line = b"HTTP/1.1 %d %b" % (head.status, _REASONS.get(head.status, b""))
    if closes:
        line += b"\r\nconnection: close"
    return _format(line, head.headers, body)


def _format(line: bytes, headers: Headers, body: Body) -> bytes:
    parts = [line, *map(b": ".join, headers)]
    if body.is_opaque:
        parts.append(b"connection: upgrade\r\nupgrade: websocket")
    elif not body.is_empty:
        if body.length is None:
            parts.append(b"transfer-encoding: chunked")
        else:
            parts.append(b"content-length: %d" % body.length)
    parts.append(b"\r\n")
    return b"\r\n".join(parts)


def format_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def format_last_chunk(trailers: Headers) -> bytes:
    if not trailers:
        return b"0\r\n\r\n"
    return b"\r\n".join([b"0", *map(b": ".join, trailers), b"\r\n"])
