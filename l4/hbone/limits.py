"""What we allow a peer on HTTP/2, out of the settings: on an HBONE connection, and on one inside of a tunnel.

The engine knows limits by what they are, an operator by the setting's name. The tables say which is which, so that
what is set, what is enforced and what a refusal is counted under cannot drift apart.
"""

from dataclasses import fields

from l4.config.settings import Settings
from l4.http2.connection import Limits
from l4.http2.flood import FloodLimits

_HBONE = {
    "max_concurrent_streams": "hbone_max_streams",
    "stream_window": "hbone_stream_window",
    "connection_window": "hbone_connection_window",
    "max_frame_size": "hbone_max_frame",
    "max_header_list_size": "hbone_header_list",
    "max_header_fields": "head_fields",
}
_INNER = {
    "max_concurrent_streams": "inner_http2_streams",
    "stream_window": "inner_http2_stream_window",
    "connection_window": "inner_http2_connection_window",
    "max_header_list_size": "head_bytes",
    "max_header_fields": "head_fields",
}
_MALFORMED = "malformed_http"


def hbone_limits_of(settings: Settings) -> Limits:
    """A malformed head ends the connection: its only clients are proxies, which do not make such mistakes."""
    return _limits(settings, _HBONE, is_malformed_head_fatal=True)


def inner_limits_of(settings: Settings) -> Limits:
    """A malformed head ends its own stream: requests of many authors share the connection."""
    return _limits(settings, _INNER, allow_connect_protocol=True)


def hbone_reason(reason: str) -> str:
    """What a refusal on an HBONE connection is counted under, given the `reason` of the engine's event."""
    return _HBONE.get(reason, reason or _MALFORMED)


def inner_reason(reason: str) -> str:
    """The same for a connection inside of a tunnel."""
    return _INNER.get(reason, reason or _MALFORMED)


def _limits(settings: Settings, table: dict[str, str], **others: bool) -> Limits:
    sizes = {field: getattr(settings, name) for field, name in table.items()}
    flood = FloodLimits(**{field.name: getattr(settings, field.name) for field in fields(FloodLimits)})
    return Limits(**sizes, **others, flood=flood)
