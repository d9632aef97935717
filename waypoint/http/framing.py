"""Where the parts of an HTTP/1.1 message end, so that a parser is never fed bytes of two messages at once.

llhttp decides what is valid but does not say where it stands. These two find the end of a head and of a chunked body in
what comes from a connection, and count what a peer may not send without bound.
"""

import re

_MAX_DIGITS = 16
"""Of a chunk's size, a 64-bit number; llhttp would take zeros in front of it without end."""
_IS_SIZE = re.compile(rb"[0-9A-Fa-f]+").fullmatch
_PLAIN_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n").match


class HeadCutter:
    """`raw` begins with the head, as far as it has come; whoever has read it empties it. `size` is the head's alone."""

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


class ChunkScanner:
    """Follows a chunked body through what is read, without looking at its data.

    `exceeded` is set when what comes next must not be read: the name of the setting that it went beyond, or
    `malformed_http`. What is malformed otherwise is for the parser to say, which reads the same bytes.
    """

    __slots__ = ("_extension_bytes", "_is_in_trailers", "_left", "_line", "_trailer_bytes", "exceeded", "is_complete")

    def __init__(self, max_extension_bytes: int, max_trailer_bytes: int) -> None:
        self._extension_bytes = max_extension_bytes  # how many more may come
        self._trailer_bytes = max_trailer_bytes
        self._line = b""  # as far as it has come
        self._left = 0  # of a chunk's data and the line end after it
        self._is_in_trailers = False
        self.is_complete = False
        self.exceeded = ""

    def scan(self, data: bytes, start: int = 0) -> int:
        """How far `data` belongs to the message, and may be read."""
        size = len(data)
        while start < size:
            if self._left:
                step = min(self._left, size - start)
                self._left -= step
                start += step
            elif not self._line and (plain := _PLAIN_SIZE_LINE(data, start)):
                self._size(plain[1])
                start = plain.end()
            else:
                end = data.find(b"\n", start) + 1
                self._line += data[start : end or size]
                self._take_line(is_whole=end > 0)
                if self.exceeded:
                    return start
                start = end or size
                if self.is_complete:
                    return start
        return size

    def _take_line(self, *, is_whole: bool) -> None:
        line = self._line.rstrip(b"\r\n")
        if self._is_in_trailers:
            if len(self._line) > self._trailer_bytes:
                self.exceeded = "head_bytes"
            self.is_complete = self._line == b"\r\n"
        else:
            digits = line.partition(b";")[0]
            if len(line) - len(digits) > self._extension_bytes:
                self.exceeded = "chunk_extension_bytes"
            elif len(digits) > _MAX_DIGITS:
                self.exceeded = "malformed_http"
        if is_whole:
            if self._is_in_trailers:
                self._trailer_bytes -= len(self._line)
            else:
                self._extension_bytes -= len(line) - len(digits)
                self._size(digits)
            self._line = b""

    def _size(self, digits: bytes) -> None:
        size = int(digits, 16) if _IS_SIZE(digits) else 1  # then the parser will not take it anyway
        if size:
            self._left = size + 2
        else:
            self._is_in_trailers = True
