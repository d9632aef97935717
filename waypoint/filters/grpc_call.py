"""A unary gRPC call as an HTTP/2 request: one message in each direction.

The body is the message with its length prefix (gRPC over HTTP/2), so that the call uses our own clusters.
"""

from policies.attributes import RequestHead
from waypoint.filters.call import Response
from waypoint.http import grpc

_PREFIX_BYTES = 5


def request(authority: str, method: bytes, seconds: float) -> RequestHead:
    """Return the request head. `method` is /SERVICE/METHOD. `seconds` is sent as the deadline."""
    headers = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    return RequestHead(b"POST", authority.encode(), method, b"", grpc.with_deadline(headers, seconds))


def framed(message: bytes) -> bytes:
    return b"\0%b%b" % (len(message).to_bytes(_PREFIX_BYTES - 1, "big"), message)


def message_of(response: Response) -> bytes | None:
    """Return the message of a response. None if the call failed, or the body is not one whole message."""
    status = grpc.status_of(response.trailers) or grpc.status_of(response.head.headers)
    message = response.body[_PREFIX_BYTES:]
    prefix = b"\0" + len(message).to_bytes(_PREFIX_BYTES - 1, "big")
    is_whole = response.body[:_PREFIX_BYTES] == prefix
    return message if response.head.status == 200 and status == "0" and is_whole else None
