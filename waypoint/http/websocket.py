"""The WebSocket handshake (RFC 6455 section 1.3): a key that only a WebSocket server can answer."""

from base64 import b64encode
from hashlib import sha1
from secrets import token_bytes

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def new_key() -> bytes:
    return b64encode(token_bytes(16))


def accept_of(key: bytes) -> bytes:
    """Return the `sec-websocket-accept` value for a key."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
