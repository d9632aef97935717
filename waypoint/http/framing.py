"""Find the ends of HTTP/1.1 heads and chunked bodies, so that a parser never receives bytes of two messages at once.

llhttp validates but does not report its position. These classes find the end of a head and of a chunked body in the
received bytes, and enforce limits on what a peer could otherwise send without bound.
"""

import re

MAX_KNOWN_HEAD = 2048
"""Maximum size in bytes of a head that a reader keeps, because its peer repeats it."""
_MAX_DIGITS = 16
"""Maximum digits of a chunk size, a 64-bit number. llhttp would accept any number of leading zeros."""
_IS_SIZE = re.compile(rb"[0-9A-Fa-f]+").fullmatch
_PLAIN_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n").match


class HeadCutter:
    """Collects a head in `raw`, which the reader empties. `size` is the size of the head alone."""

    __slots__ = ("_max_bytes", "is_complete", "is_too_large", "raw", "size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.raw: bytes | bytearray = b""
        self.size = 0
        self.is_complete = False
        self.is_too_large = False

    def cut(self, data: bytes) -> bytes:
        """Return the part of `data` that belongs to the head. Of a head that is too large, return the part within the
        limit."""
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
    """Follows a chunked body through received data, without looking at its content.

    `exceeded` is set if the following bytes must not be read: the name of the exceeded setting, or `malformed_http`.
    Other errors are left to the parser, which reads the same bytes.
    """

    __slots__ = ("_extension_bytes", "_is_in_trailers", "_left", "_line", "_trailer_bytes", "exceeded", "is_complete")

    def __init__(self, max_extension_bytes: int, max_trailer_bytes: int) -> None:
        self._extension_bytes = max_extension_bytes  # bytes of extensions still allowed
        self._trailer_bytes = max_trailer_bytes
        self._line = b""  # the incomplete line
        self._left = 0  # bytes left of a chunk's data and the line end after it
        self._is_in_trailers = False
        self.is_complete = False
        self.exceeded = ""

    def scan(self, data: bytes, start: int = 0) -> int:
        """Return the position in `data` up to which it belongs to the message and may be parsed."""
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
        size = int(digits, 16) if _IS_SIZE(digits) else 1  # the parser will reject it anyway
        if size:
            self._left = size + 2
        else:
            self._is_in_trailers = True
