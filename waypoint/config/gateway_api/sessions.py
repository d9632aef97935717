"""Compile the Gateway API's `sessionPersistence` of a rule or Service (GEP-1619)."""

from l4.config.durations import seconds_of
from policies.session import SessionPersistence, generated_name
from waypoint.config.gateway_api import routes as api


def session_of(session: api.SessionPersistence, owner: str, path: bytes) -> SessionPersistence:
    """Compile a session configuration. `owner` makes default names unique; `path` is the cookie's path."""
    is_cookie = session.type == "Cookie"
    is_permanent = session.cookie_config is not None and session.cookie_config.lifetime_type == "Permanent"
    name = session.session_name.encode() if session.session_name else generated_name(owner)
    return SessionPersistence(
        name=name if is_cookie else name.lower(),
        is_cookie=is_cookie,
        path=path,
        absolute_seconds=seconds_of(session.absolute_timeout),
        is_permanent=is_permanent,
    )
