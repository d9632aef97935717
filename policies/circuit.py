"""How much a destination may have under way: beyond it requests are answered at once, instead of adding to the trouble.

Envoy's circuit breakers, DestinationRule's `connectionPool`: connections, requests that wait for one, requests. The
counts are those of one process; retries have a budget of their own (`policies.retry_budget`).
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/circuit_breaking
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CircuitLimits:
    """None: without a bound."""

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None


NO_LIMITS = CircuitLimits()


class Circuit:
    """What one destination has under way. What was taken must be given back: counts are public for that."""

    __slots__ = ("connections", "limits", "pending", "requests")

    def __init__(self, limits: CircuitLimits = NO_LIMITS) -> None:
        self.limits = limits
        self.connections = 0
        self.pending = 0
        self.requests = 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another request."""
        limit = self.limits.max_requests
        return limit is not None and self.requests >= limit

    def take_request(self) -> bool:
        """Begin a request, if there is room for it; not before there is a connection for it."""
        if self.is_full:
            return False
        self.requests += 1
        return True

    def take_pending(self) -> bool:
        """Let a request wait for a connection, if there is room for it."""
        limit = self.limits.max_pending_requests
        if limit is not None and self.pending >= limit:
            return False
        self.pending += 1
        return True

    def may_connect(self, own: int) -> bool:
        """Whether there is room for another connection, to an endpoint that has `own` of them. One without any gets its
        first in any case: whoever waits for it would wait for ever (Envoy's rule)."""
        limit = self.limits.max_connections
        return limit is None or self.connections < limit or own == 0
