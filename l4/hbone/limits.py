"""What we allow a peer on an HBONE connection, out of the settings.

The engine knows limits by what they are, an operator by the setting's name. The table says which is which, so that
what is set, what is enforced and what a refusal is counted under cannot drift apart.
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
    """A malformed head ends the connection: its only clients are proxies, which do not make such mistakes."""
    own = settings.of(HboneSettings)
    sizes = {field: getattr(own, name) for field, name in _NAMES.items()}
    return Limits(**sizes, is_malformed_head_fatal=True, flood=settings.of(FloodLimits))


def hbone_reason(reason: str) -> str:
    """What a refusal on an HBONE connection is counted under, given the `reason` of the engine's event."""
    return _NAMES.get(reason, reason or MALFORMED)
