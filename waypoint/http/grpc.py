"""gRPC over HTTP/2: status, deadline, and error responses.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. HTTP statuses map to gRPC statuses as in Envoy.
"""

import re

from policies.attributes import Headers, ResponseHead

_CONTENT_TYPE = b"application/grpc"
_CONTENT_TYPES_OF_FORMATS = (b"application/grpc+", b"application/grpc;")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_STATUSES = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_UNKNOWN = 2
_UNPRINTABLE = re.compile(rb"[^\x20-\x24\x26-\x7e]")


def is_grpc(content_type: bytes | None) -> bool:
    """Whether the content type is gRPC. gRPC-Web does not count."""
    if content_type is None:
        return False
    return content_type == _CONTENT_TYPE or content_type.startswith(_CONTENT_TYPES_OF_FORMATS)


def status_of(headers: Headers) -> str:
    """Return `grpc-status` of trailers or of a trailers-only response, or an empty text."""
    for name, value in headers:
        if name == b"grpc-status":
            return value.decode("latin-1")
    return ""


def deadline_of(headers: Headers) -> float | None:
    """Return the seconds that the caller waits. None if `grpc-timeout` is absent or invalid."""
    for name, value in headers:
        if name == b"grpc-timeout":
            match = _TIMEOUT(value)
            return int(match[1]) * _UNITS[match[2]] if match else None
    return None


def with_deadline(headers: Headers, seconds: float) -> Headers:
    kept = [header for header in headers if header[0] != b"grpc-timeout"]
    return [*kept, (b"grpc-timeout", b"%dm" % (seconds * 1000))]


def reply(head: ResponseHead, message: bytes, status: int | None = None) -> ResponseHead:
    """Convert a local reply for a gRPC client: status 200, with the error in trailers and no body.

    `status` is the gRPC status to send, if it is not the one that the HTTP status maps to.
    """
    if status is None:
        status = _STATUSES.get(head.status, _UNKNOWN)
    headers = [header for header in head.headers if header[0] != b"content-type"]
    headers.append((b"content-type", _CONTENT_TYPE))
    headers.append((b"grpc-status", b"%d" % status))
    if message:
        headers.append((b"grpc-message", _UNPRINTABLE.sub(_escaped, message)))
    return ResponseHead(200, headers)


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
