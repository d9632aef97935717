"""Where the parts of an HTTP/1.1 message end, so that a parser is never fed bytes of two messages at once.

llhttp decides what is valid but does not say where it stands. These two cut what comes from a connection at the end of
a head, and at the ends of a chunked body's lines and data; and they count what a peer may not send without bound.
"""

_MAX_DIGITS = 16
"""Of a chunk's size, a 64-bit number; llhttp would take zeros in front of it without end."""


class LimitExceeded(Exception):
    """`reason` is what it is counted under: the name of the setting, where there is one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HeadCutter:
    """`raw` begins with the head, as far as it has come, until `done`; `size` is the head's, in bytes."""

    __slots__ = ("_max_bytes", "is_complete", "is_too_large", "raw", "size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.raw: bytes | bytearray = b""
        self.size = 0
        self.is_complete = False
        self.is_too_large = False

    def cut(self, data: bytes) -> bytes:
        """What of `data` belongs to the head; of a head that is too large, what is within the limit."""
        raw = self.raw
        known = len(raw)
        if known:
            raw += data
        else:
            raw = data
        end = raw.find(b"\r\n\r\n", known - 3 if known > 3 else 0) + 4
        self.is_complete = end > 3
        self.raw = raw if known or end > 3 else bytearray(raw)
        self.size = size = end if end > 3 else len(raw)
        if size > self._max_bytes:
            self.is_too_large = True
            return data[: max(self._max_bytes - known, 0)]
        return data[: size - known]

    def done(self) -> None:
        self.raw = b""


class ChunkCutter:
    """`cut` gives the next piece; when the parser has taken that, `passed` notes it. Both raise LimitExceeded."""

    __slots__ = ("_extension_bytes", "_is_in_trailers", "_left", "_line", "_trailer_bytes")

    def __init__(self, max_extension_bytes: int, max_trailer_bytes: int) -> None:
        self._extension_bytes = max_extension_bytes  # how many more may come
        self._trailer_bytes = max_trailer_bytes
        self._line = b""
        self._left = 0  # of a chunk's data and the line end after it
        self._is_in_trailers = False

    def cut(self, data: bytes) -> bytes:
        if self._left:
            return data[: self._left]
        end = data.find(b"\n") + 1
        piece = data[:end] if end else data
        if self._is_in_trailers:
            self._trailer_bytes -= len(piece)
            if self._trailer_bytes < 0:
                raise LimitExceeded("head_bytes")
        return piece

    def passed(self, piece: bytes) -> None:
        if self._left:
            self._left -= len(piece)
        elif not self._is_in_trailers:
            self._line += piece
            self._size_line()

    def _size_line(self) -> None:
        line = self._line.rstrip(b"\r\n")
        size = line.partition(b";")[0]
        if len(line) - len(size) > self._extension_bytes:
            raise LimitExceeded("chunk_extension_bytes")
        if len(size) > _MAX_DIGITS:
            raise LimitExceeded("malformed_http")
        if self._line[-1:] == b"\n":
            self._extension_bytes -= len(line) - len(size)
            self._line = b""
            self._left = int(size, 16)
            if self._left:
                self._left += 2
            else:
                self._is_in_trailers = True
