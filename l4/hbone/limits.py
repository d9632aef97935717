"""HTTP/2 limits for peers, taken from the settings: for HBONE connections, and for connections inside a tunnel.

The engine and the operator use different names for limits. These tables translate, so that what is configured, what is
enforced, and the name under which a refusal is counted always agree.
"""

from l4.config.settings import Settings
from l4.hbone.settings import HboneSettings
from l4.http2.connection import Limits
from l4.http2.flood_limits import FloodLimits

_NAMES = {
    "max_concurrent_streams": "hbone_max_streams",
    "stream_window": "hbone_stream_window",
    "connection_window": "hbone_connection_window",
    "max_frame_size": "hbone_max_frame",
    "max_header_list_size": "hbone_header_list",
    "max_header_fields": "hbone_header_fields",
}
MALFORMED = "malformed_http"


def hbone_limits_of(settings: Settings) -> Limits:
    """Limits of HBONE connections. A malformed head is fatal, since the only clients are proxies."""
    own = settings.of(HboneSettings)
    sizes = {field: getattr(own, name) for field, name in _NAMES.items()}
    return Limits(**sizes, is_malformed_head_fatal=True, flood=settings.of(FloodLimits))


def hbone_reason(reason: str) -> str:
    """Return the metric label of a refusal on an HBONE connection, given the engine's `reason`."""
    return _NAMES.get(reason, reason or MALFORMED)
