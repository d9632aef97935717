"""Limit the load of a destination: requests beyond the limit are answered immediately instead of adding to the load.

Follows Envoy's circuit breakers and DestinationRule's `connectionPool`: connections, requests that wait for a
connection, and requests. Counts are those of the replica. Retries have their own budget (`policies.retry_budget`).
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/circuit_breaking
"""

from dataclasses import dataclass

from policies.shared_counts import SharedCounts

CONNECTIONS, PENDING, REQUESTS = range(3)
"""The counts, in the order in which workers share them."""


@dataclass(frozen=True, slots=True)
class CircuitLimits:
    """Limits of one destination. None means unlimited."""

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None

    def divided(self, workers: int) -> "CircuitLimits":
        """Return the limits of one of several workers that do not share their counts."""
        of_all = self.max_connections, self.max_pending_requests, self.max_requests
        return CircuitLimits(*(None if it is None else it and max(it // workers, 1) for it in of_all))


NO_LIMITS = CircuitLimits()


class Circuit:
    """Current counts of one destination. Callers give back what they took.

    `connections`, `pending` and `requests` are of this worker. `shared` has those of the other workers, and is None if
    there are none.
    """

    __slots__ = ("connections", "limits", "pending", "requests", "shared")

    def __init__(self, limits: CircuitLimits = NO_LIMITS) -> None:
        self.limits = limits
        self.connections = 0
        self.pending = 0
        self.requests = 0
        self.shared: SharedCounts | None = None

    def share(self, shared: SharedCounts | None) -> None:
        """Count together with other workers from now on, or no longer."""
        self.shared = shared
        if shared is not None:
            shared.put(CONNECTIONS, self.connections)
            shared.put(PENDING, self.pending)
            shared.put(REQUESTS, self.requests)

    @property
    def all_connections(self) -> int:
        """Connections of all workers."""
        return self.connections if self.shared is None else self.connections + self.shared.others(CONNECTIONS)

    @property
    def all_pending(self) -> int:
        """Requests of all workers that wait for a connection."""
        return self.pending if self.shared is None else self.pending + self.shared.others(PENDING)

    @property
    def all_requests(self) -> int:
        """Active requests of all workers."""
        return self.requests if self.shared is None else self.requests + self.shared.others(REQUESTS)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another request."""
        limit = self.limits.max_requests
        if limit is None:
            return False
        return (self.requests if self.shared is None else self.all_requests) >= limit

    def take_request(self) -> bool:
        """Count a request if there is room. Call it only once a connection is available for the request."""
        if self.is_full:
            return False
        self.requests += 1
        if self.shared is not None:
            self.shared.put(REQUESTS, self.requests)
        return True

    def end_request(self) -> None:
        self.requests -= 1
        if self.shared is not None:
            self.shared.put(REQUESTS, self.requests)

    def take_pending(self) -> bool:
        """Count a request that waits for a connection, if there is room."""
        limit = self.limits.max_pending_requests
        if limit is not None and self.all_pending >= limit:
            return False
        self.pending += 1
        if self.shared is not None:
            self.shared.put(PENDING, self.pending)
        return True

    def end_pending(self) -> None:
        self.pending -= 1
        if self.shared is not None:
            self.shared.put(PENDING, self.pending)

    def begin_connection(self) -> None:
        """Count a connection, whether or not there is room."""
        self.connections += 1
        if self.shared is not None:
            self.shared.put(CONNECTIONS, self.connections)

    def end_connection(self) -> None:
        self.connections -= 1
        if self.shared is not None:
            self.shared.put(CONNECTIONS, self.connections)

    def may_connect(self, own: int) -> bool:
        """Whether another connection may be opened to an endpoint that has `own` connections.

        An endpoint without connections of this worker always gets its first one; otherwise requests for it would wait
        forever (Envoy's rule).
        """
        limit = self.limits.max_connections
        return limit is None or self.all_connections < limit or own == 0
