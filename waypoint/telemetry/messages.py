"""Count gRPC messages while they flow, by their prefixes: a flag and a length, five bytes in all.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. A message counts when its prefix is complete, for the
endpoint that the request then has. What arrives before there is an endpoint counts for the first one.
"""

from struct import Struct

from l4.telemetry.metrics import Value

_PREFIX = 5
_LENGTH = Struct(">L")
"""Of a message, after its flag."""


class Messages:
    """The messages of one request and of its response."""

    __slots__ = ("is_pending", "request", "response")

    def __init__(self) -> None:
        self.is_pending = True
        """Whether the messages count for no endpoint yet."""
        self.request = Scan()
        self.response = Scan()

    def count_for(self, request: Value, response: Value) -> None:
        """Count from now on in these counters, and there what was pending, too."""
        if self.is_pending:
            request.value += self.request.counter.value
            response.value += self.response.counter.value
            self.is_pending = False
        self.request.counter, self.response.counter = request, response


class Scan:
    """Finds the messages of one direction."""

    __slots__ = ("_begun", "_left", "counter")

    def __init__(self) -> None:
        self.counter = Value()
        self._left = 0  # bytes of the message that has begun
        self._begun = b""  # of a prefix

    def feed(self, data: bytes) -> None:
        if self._begun:
            data = self._begun + data
            self._begun = b""
        at, size = self._left, len(data)
        while at + _PREFIX <= size:
            self.counter.value += 1
            (length,) = _LENGTH.unpack_from(data, at + 1)
            at += _PREFIX + length
        self._left = max(at - size, 0)
        if at < size:
            self._begun = data[at:]
