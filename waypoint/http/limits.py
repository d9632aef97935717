"""HTTP/2 limits of connections inside a tunnel, taken from the settings. See `l4.hbone.limits`."""

from l4.config.settings import Settings
from l4.hbone.limits import MALFORMED
from l4.http2.connection import Limits
from l4.http2.flood_limits import FloodLimits
from waypoint.http.settings import HttpSettings

_NAMES = {
    "max_concurrent_streams": "inner_http2_streams",
    "stream_window": "inner_http2_stream_window",
    "connection_window": "inner_http2_connection_window",
    "max_header_list_size": "head_bytes",
    "max_header_fields": "head_fields",
}


def inner_limits_of(settings: Settings) -> Limits:
    """Limits inside a tunnel. A malformed head resets its stream, since many clients share the connection."""
    own = settings.of(HttpSettings)
    sizes = {field: getattr(own, name) for field, name in _NAMES.items()}
    return Limits(**sizes, allow_connect_protocol=True, flood=settings.of(FloodLimits))


def inner_reason(reason: str) -> str:
    """Return the metric label of a refusal inside a tunnel, given the engine's `reason`."""
    return _NAMES.get(reason, reason or MALFORMED)
