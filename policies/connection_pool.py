"""How connections to endpoints are opened and kept: DestinationRule's `connectionPool`, except for its circuit
breakers.

Circuit breakers are in `policies.circuit`.
https://istio.io/latest/docs/reference/config/networking/destination-rule/#ConnectionPoolSettings
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keepalive:
    """TCP keepalive probes. None uses the process settings."""

    probes: int | None = None
    idle_seconds: float | None = None
    interval_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """Connection options of one destination.

    `max_requests_per_connection` 0 means unlimited. `idle_seconds` None uses the process settings.
    `max_concurrent_streams` limits the streams of one HTTP/2 connection, in addition to the endpoint's own limit. With
    `uses_client_protocol`, endpoints are called with the client's HTTP version. `keepalive` applies to connections
    without a tunnel only; tunnel connections are shared by all destinations.
    """

    connect_seconds: float = 10.0
    idle_seconds: float | None = None
    max_requests_per_connection: int = 0
    max_concurrent_streams: int | None = None
    uses_client_protocol: bool = False
    keepalive: Keepalive | None = None


DEFAULT_POOL = ConnectionPool()
