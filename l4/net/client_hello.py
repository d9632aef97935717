"""The server name that a TLS client asks for (RFC 6066 section 3), read in passing from its ClientHello (RFC 8446).

Nothing is held back or changed for this, and what cannot be understood is left alone: it only helps to name a
connection in logs. A client that hides the name (ECH) shows its outer one.
"""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_MAX_BYTES = 16 << 10


class ClientHello:
    """`server_name` is empty until it is known."""

    __slots__ = ("_data", "server_name")

    def __init__(self) -> None:
        self.server_name = ""
        self._data = b""

    def feed(self, data: bytes) -> bool:
        """Look at what came; False when there is nothing more to look for."""
        self._data += data
        try:
            message = _message(self._data)
            if message is None and len(self._data) <= _MAX_BYTES:
                return True
            self.server_name = _server_name(message or b"")
        except (IndexError, UnicodeDecodeError):
            pass
        self._data = b""
        return False


def _message(data: bytes) -> bytes | None:
    """The first handshake message, which may lie in several records; None while it isn't whole."""
    message = b""
    while len(data) >= 5:
        if data[0] != _HANDSHAKE:
            raise IndexError
        length = int.from_bytes(data[3:5])
        message += data[5 : 5 + length]
        data = data[5 + length :]
        if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4]):
            return message
    if data and data[0] != _HANDSHAKE:
        raise IndexError
    return None


def _server_name(message: bytes) -> str:
    if message[0] != _CLIENT_HELLO:
        return ""
    rest = message[4 + 2 + 32 :]
    for size in (1, 2, 1):  # session id, cipher suites, compression methods
        rest = rest[size + int.from_bytes(rest[:size]) :]
    extensions = rest[2 : 2 + int.from_bytes(rest[:2])]
    while len(extensions) >= 4:
        length = int.from_bytes(extensions[2:4])
        if int.from_bytes(extensions[:2]) == _SERVER_NAME:
            name = extensions[4 : 4 + length]
            return name[5 : 5 + int.from_bytes(name[3:5])].decode("ascii")
        extensions = extensions[4 + length :]
    return ""
