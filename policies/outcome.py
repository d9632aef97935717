"""How one attempt at an endpoint ended. Retries and outlier detection decide by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from policies.attributes import Header
from policies.grpc_status import HTTP_STATUSES


class Ending(Enum):
    CONNECT_FAILURE = "no connection: TCP, TLS or CONNECT failed, was refused, or was reset before its 200"
    REFUSED_STREAM = "REFUSED_STREAM, or a GOAWAY that leaves the stream out (RFC 9113 section 8.7)"
    RESET = "the connection or stream broke off, or spoke no HTTP, before a response"
    TIMEOUT = "no response within the time that one attempt has"
    RESPONSE = "a response's head"


# An enumeration's class looks up its members by Python code before 3.12, so hot code names this one.
RESPONSE = Ending.RESPONSE


@dataclass(slots=True)
class Outcome:
    """The end of one attempt. `status` and `headers` are set if `ending` is RESPONSE.

    `is_stale`: a reset on a connection that had served requests before and returned no byte this time. The endpoint
    most likely closed the connection in the meantime.
    """

    ending: Ending
    status: int = 0
    headers: Sequence[Header] = ()
    is_stale: bool = False

    @property
    def is_undelivered(self) -> bool:
        """Whether the application provably never saw the request."""
        return self.ending in _UNDELIVERED

    def is_success(self) -> bool:
        """Whether the endpoint has answered, and not with an error of its own."""
        return self.ending is RESPONSE and self.http_status() < 500

    def http_status(self) -> int:
        """The response's status. A gRPC error in the head counts as the HTTP status that it corresponds to."""
        for name, value in self.headers:
            if name == b"grpc-status":
                return HTTP_STATUSES.get(int(value), 500) if value.isdigit() and len(value) < 3 else self.status
        return self.status


_UNDELIVERED = frozenset({Ending.CONNECT_FAILURE, Ending.REFUSED_STREAM})
