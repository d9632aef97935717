"""A filter's part in one exchange, after the request's head."""

from typing import ClassVar

from policies.attributes import Headers, ResponseHead
from policies.balancing.endpoint import Endpoint
from waypoint.telemetry.record import ExchangeRecord
from waypoint.upstream.affinity import Sticky
from waypoint.upstream.cluster import Cluster

_HOOKS = (
    "forwarded",
    "request_body",
    "request_end",
    "picker",
    "response_head",
    "response_body",
    "response_end",
    "end",
)


class Part:
    """A filter's part in one exchange, after the request's head. The methods do nothing unless overridden.

    Requests pass the parts in the order of the filters, responses in the reverse order. The methods do not wait. To
    refuse, they raise ExchangeError: the client gets this error, or, if its response has begun, a response that is cut.
    A part that changes a body must say so, because the length of that body is not known in advance. What follows an
    upgrade, such as a WebSocket's bytes, is no body.
    """

    __slots__ = ()

    changes_request_body: ClassVar[bool] = False
    changes_response_body: ClassVar[bool] = False
    hooks: ClassVar[frozenset[str]] = frozenset()
    """Names of the methods that the class overrides. Only these are called."""

    def __init_subclass__(cls) -> None:
        cls.hooks = frozenset(name for name in _HOOKS if getattr(cls, name) is not getattr(Part, name))

    def forwarded(self) -> None:
        """Called before the request goes to an endpoint. The head is the one that the endpoint will get."""

    def request_body(self, data: bytes) -> bytes:
        return data

    def request_end(self, trailers: Headers) -> bytes:
        """Return what to send behind the last piece of the body."""
        return b""

    def picker(self, cluster: Cluster) -> Sticky | None:
        """Return a picker of the cluster's endpoints, if this part has one."""

    def response_head(self, head: ResponseHead, endpoint: Endpoint | None) -> None:
        """Edit the head of a response, after the rule's edits. `endpoint` is None for an answer of our own."""

    def response_body(self, data: bytes) -> bytes:
        return data

    def response_end(self, trailers: Headers) -> bytes:
        """Return what to send behind the last piece of the body."""
        return b""

    def end(self, record: ExchangeRecord) -> None:
        """Called once, however the exchange ended."""
