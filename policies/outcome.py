"""How one attempt at an endpoint ended. Retries and outlier detection decide by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from policies.attributes import Header


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


_UNDELIVERED = frozenset({Ending.CONNECT_FAILURE, Ending.REFUSED_STREAM})
