"""Flow control (RFC 9113 section 5.2): the connection's windows in both directions.

Each stream also has its own windows, in `Stream`. Consumed bytes are returned to the peer in halves of a window, so
that small frames are not answered one by one.
"""

from l4.http2.connection import Limits
from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.express.output import Output
from l4.http2.express.streams import Stream
from l4.http2.frames import DEFAULT_WINDOW, MAX_WINDOW, window_update_frame


class Windows:
    """The windows of one connection."""

    __slots__ = ("_connection_half", "_output", "_stream_half", "_unreturned", "receive", "send")

    def __init__(self, limits: Limits, output: Output) -> None:
        self._output = output
        self._stream_half = (limits.stream_window + 1) // 2
        self._connection_half = (max(limits.connection_window, DEFAULT_WINDOW) + 1) // 2
        self._unreturned = 0  # consumed bytes whose window was not returned to the peer yet
        self.send = DEFAULT_WINDOW
        self.receive = DEFAULT_WINDOW

    def widen(self, size: int) -> None:
        """Enlarge the connection's receive window, which SETTINGS cannot do."""
        if size > DEFAULT_WINDOW:
            self._give_back(0, size - self.receive)
            self.receive = size

    def consume(self, stream: Stream | None, length: int) -> None:
        """Return consumed bytes of a stream to the windows. `stream` is None if it has ended."""
        self._unreturned += length
        if self._unreturned >= self._connection_half:
            self._give_back(0, self._unreturned)
            self.receive += self._unreturned
            self._unreturned = 0
        if stream is not None and not stream.remote_closed:
            stream.unreturned += length
            if stream.unreturned >= self._stream_half:
                self._give_back(stream.id, stream.unreturned)
                stream.receive_window += stream.unreturned
                stream.unreturned = 0

    def _give_back(self, stream_id: int, increment: int) -> None:
        self._output.add(window_update_frame(stream_id, increment))

    def open_connection(self, increment: int) -> None:
        """Enlarge the connection's send window. Raises ConnectionFault."""
        self.send += increment
        if increment == 0 or self.send > MAX_WINDOW:
            code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
            raise ConnectionFault(code, f"WINDOW_UPDATE of the connection by {increment}")
