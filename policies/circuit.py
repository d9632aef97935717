"""Limit the load of a destination: requests beyond the limit are answered immediately instead of adding to the load.

Follows Envoy's circuit breakers and DestinationRule's `connectionPool`: connections, requests that wait for a
connection, and requests. Counts are per process. Retries have their own budget (`policies.retry_budget`).
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/circuit_breaking
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CircuitLimits:
    """Limits of one destination. None means unlimited."""

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None


NO_LIMITS = CircuitLimits()


class Circuit:
    """Current counts of one destination. Callers give back what they took by decreasing the public counts."""

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
        """Count a request if there is room. Call it only once a connection is available for the request."""
        if self.is_full:
            return False
        self.requests += 1
        return True

    def take_pending(self) -> bool:
        """Count a request that waits for a connection, if there is room."""
        limit = self.limits.max_pending_requests
        if limit is not None and self.pending >= limit:
            return False
        self.pending += 1
        return True

    def may_connect(self, own: int) -> bool:
        """Whether another connection may be opened to an endpoint that has `own` connections.

        An endpoint without connections always gets its first one; otherwise requests for it would wait forever (Envoy's
        rule).
        """
        limit = self.limits.max_connections
        return limit is None or self.connections < limit or own == 0
