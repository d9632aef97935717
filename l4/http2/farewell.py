"""Closing an HTTP/2 connection in two steps (RFC 9113 section 6.8).

First the peer is told to open no more streams. Streams that it opened before it read that are still served. Its answer
to a PING shows that it has read that; the streams are then final, and the connection closes when the last one ends.
"""

from l4.http2.connection import Connection
from l4.http2.errors import ErrorCode

_LAST_STREAM = 2**31 - 1
_PING = b"goaway 1"


class Farewell:
    """Sends both GOAWAYs. The caller flushes the engine's output."""

    __slots__ = ("_engine", "is_announced", "is_final", "is_heard")

    def __init__(self, engine: Connection) -> None:
        self._engine = engine
        self.is_announced = False  # the peer was told
        self.is_heard = False  # the peer has read it
        self.is_final = False  # new streams are ignored

    def announce(self) -> None:
        if not self.is_announced:
            self.is_announced = True
            self._engine.goaway(ErrorCode.NO_ERROR, last_stream_id=_LAST_STREAM)

    def ask(self) -> None:
        """Send the PING whose answer shows that the peer has read what was sent before it."""
        self._engine.ping(_PING)

    def hears(self, payload: bytes) -> bool:
        """Whether the answer to a PING shows that the peer has read the announcement."""
        if payload == _PING and self.is_announced:
            self.is_heard = True
            return True
        return False

    def finish(self) -> bool:
        """Send the GOAWAY that names the last stream. Returns False if the streams were already final."""
        if self.is_final:
            return False
        self.is_final = True
        self._engine.goaway(ErrorCode.NO_ERROR)
        return True
