"""How connections to a destination's endpoints are made and kept: DestinationRule's `connectionPool`, but for its
limits on what is under way (`policies.circuit`).

https://istio.io/latest/docs/reference/config/networking/destination-rule/#ConnectionPoolSettings
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keepalive:
    """TCP's probes; what is None is left to the settings."""

    probes: int | None = None
    idle_seconds: float | None = None
    interval_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """`max_requests_per_connection` 0: as many as come. `idle_seconds` None: as the settings have it.
    `max_concurrent_streams` bounds those of one HTTP/2 connection, beside what the endpoint allows.
    `uses_client_protocol`: endpoints are spoken to in the version of HTTP that the client speaks. `keepalive` is for
    connections without a tunnel: those under tunnels belong to all destinations."""

    connect_seconds: float = 10.0
    idle_seconds: float | None = None
    max_requests_per_connection: int = 0
    max_concurrent_streams: int | None = None
    uses_client_protocol: bool = False
    keepalive: Keepalive | None = None


DEFAULT_POOL = ConnectionPool()
