"""Read the server name (SNI, RFC 6066 section 3) from a TLS ClientHello (RFC 8446) as it passes.

Nothing is delayed or changed, and anything unexpected is ignored: the name only labels the connection in logs. A client
that hides its name (ECH) shows the outer name.
"""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_MAX_BYTES = 16 << 10
_MAX_NAME = 255  # RFC 1035 section 2.3.4: a longer name is not a host name


class ClientHello:
    """`server_name` is empty until it is known."""

    __slots__ = ("_left", "_message", "_records", "server_name")

    def __init__(self) -> None:
        self.server_name = ""
        self._left = _MAX_BYTES
        self._records = b""  # bytes from the first incomplete record on
        self._message = bytearray()

    def feed(self, data: bytes) -> bool:
        """Examine received bytes. Returns False when nothing more is needed."""
        self._left -= len(data)
        self._records += data
        try:
            if self._is_whole():
                self.server_name = _server_name(bytes(self._message))
            elif self._left >= 0:
                return True
        except (IndexError, UnicodeDecodeError):
            pass
        self._records = b""
        self._message.clear()
        return False

    def _is_whole(self) -> bool:
        """Take the handshake message, which may span several records, from the complete records."""
        records, message = self._records, self._message
        start = 0
        while len(records) > start:
            if records[start] != _HANDSHAKE:
                raise IndexError
            end = start + 5 + int.from_bytes(records[start + 3 : start + 5])
            if len(records) < max(end, start + 5):
                break
            message += records[start + 5 : end]
            start = end
            if len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4]):
                return True
        self._records = records[start:]
        return False


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
            size = int.from_bytes(name[3:5])
            return name[5 : 5 + size].decode("ascii") if size <= _MAX_NAME else ""
        extensions = extensions[4 + length :]
    return ""
