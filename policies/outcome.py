"""How one attempt at one endpoint ended, classified: what retries (and whoever judges endpoints) decide by."""

from dataclasses import dataclass, field
from enum import Enum

from policies.attributes import Headers


class Ending(Enum):
    CONNECT_FAILURE = "no connection: TCP, TLS or CONNECT failed, was refused, or was reset before its 200"
    REFUSED_STREAM = "REFUSED_STREAM, or a GOAWAY that leaves the stream out (RFC 9113 section 8.7)"
    RESET = "the connection or stream broke off, or spoke no HTTP, before a response"
    TIMEOUT = "no response within the time that one attempt has"
    RESPONSE = "a response's head"


@dataclass(slots=True)
class Outcome:
    """`status` and `headers` are those of a RESPONSE. `is_stale`: of a RESET, that it met a connection which had served
    before and brought not a byte this time; the endpoint has most likely closed it meanwhile."""

    ending: Ending
    status: int = 0
    headers: Headers = field(default_factory=list)
    is_stale: bool = False

    @property
    def is_undelivered(self) -> bool:
        """The application provably never saw the request."""
        return self.ending in _UNDELIVERED


_UNDELIVERED = frozenset({Ending.CONNECT_FAILURE, Ending.REFUSED_STREAM})
