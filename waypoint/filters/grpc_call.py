"""One message to a gRPC service and one back: what a call adds to a request of our own.

A call is an HTTP/2 request whose body is the message behind its length (gRPC over HTTP/2), so that it goes out through
our own clusters.
"""

from policies.attributes import RequestHead
from waypoint.filters.call import Response
from waypoint.http import grpc

_PREFIX_BYTES = 5


def request(authority: str, method: bytes, seconds: float) -> RequestHead:
    """`method` is /SERVICE/METHOD. The service is told how long the caller waits."""
    headers = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    return RequestHead(b"POST", authority.encode(), method, b"", grpc.with_deadline(headers, seconds))


def framed(message: bytes) -> bytes:
    return b"\0%b%b" % (len(message).to_bytes(_PREFIX_BYTES - 1, "big"), message)


def message_of(response: Response) -> bytes | None:
    """None: the call failed, or the answer is not one whole message."""
    status = grpc.status_of(response.trailers) or grpc.status_of(response.head.headers)
    message = response.body[_PREFIX_BYTES:]
    prefix = b"\0" + len(message).to_bytes(_PREFIX_BYTES - 1, "big")
    is_whole = response.body[:_PREFIX_BYTES] == prefix
    return message if response.head.status == 200 and status == "0" and is_whole else None
