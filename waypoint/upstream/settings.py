"""Settings of connections to endpoints, and of DNS."""

from dataclasses import dataclass

from l4.config.settings import Section


@dataclass(frozen=True, slots=True)
class UpstreamSettings(Section):
    title = "Endpoints"

    retry_buffer_bytes: int = 64 << 10
    """Bytes of a request's body that are kept so that it can be sent again."""
    upstream_idle_http_seconds: float = 60.0
    """Life of a connection to an endpoint without a request. Shorter than what common servers allow (75 s), so that we
    close first and no request meets a closing connection."""


@dataclass(frozen=True, slots=True)
class DnsSettings(Section):
    title = "DNS"

    dns_servers: str = ""
    """Addresses of servers, separated by commas, each with a port if it isn't 53, instead of those in
    /etc/resolv.conf."""
    dns_timeout_seconds: float = 5.0
    """Time for an answer."""
    dns_min_seconds: float = 5.0
    """Shortest time after which a name is asked for again, whatever its time to live is."""
    dns_max_seconds: float = 300.0
    """Longest such time."""
    dns_stale_seconds: float = 600.0
    """Time for which the last answer is used while there is no new one."""
