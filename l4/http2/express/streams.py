"""Streams of one connection: which are open, which were reset, and which ids are unused (RFC 9113 5.1).

A stream is removed when both directions are closed. The most recently reset streams are remembered, because frames may
arrive that the peer sent before it saw the reset.
"""

from collections import OrderedDict

from l4.http2.errors import ConnectionFault, ErrorCode, StreamFault, StreamUnavailable
from l4.http2.frames import DEFAULT_WINDOW, MAX_WINDOW

_REMEMBERED_RESETS = 1000


class Stream:
    """An open or half-closed stream."""

    __slots__ = (
        "expected",
        "has_head",
        "id",
        "is_bodiless",
        "local_closed",
        "receive_window",
        "received",
        "remote_closed",
        "send_window",
        "unreturned",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.unreturned = 0  # consumed bytes whose window was not returned to the peer yet
        self.local_closed = False
        self.remote_closed = False
        self.has_head = False  # whether the peer's final head was received
        self.is_bodiless = False  # a response to HEAD
        self.expected: int | None = None  # content-length
        self.received = 0

    def expects(self, length: int, is_last: bool) -> bool:
        """Count bytes of a body with a content-length. Returns False, and counts nothing, if they contradict it."""
        received = self.received + length
        assert self.expected is not None
        if received > self.expected or (is_last and received != self.expected):
            return False
        self.received = received
        return True


class Streams:
    """The streams of one connection, by id."""

    __slots__ = (
        "_counts",
        "_initial_receive_window",
        "_initial_send_window",
        "_is_client",
        "_resets",
        "by_id",
        "highest_peer",
        "last_accepted",
        "next_own",
    )

    def __init__(self, is_client: bool) -> None:
        self._is_client = is_client
        self.by_id: dict[int, Stream] = {}
        self._counts = [0, 0]  # open streams by parity of their id
        self._resets: OrderedDict[int, bool] = OrderedDict()  # stream id → whether we sent RST_STREAM
        self.next_own = 1 if is_client else 2
        self.highest_peer = 0
        self.last_accepted: int | None = None  # the last stream id of our GOAWAY
        self._initial_send_window = DEFAULT_WINDOW
        self._initial_receive_window = DEFAULT_WINDOW  # until the peer acknowledges our SETTINGS

    @property
    def own_count(self) -> int:
        """Number of open streams that we opened."""
        return self._counts[1 if self._is_client else 0]

    @property
    def peer_count(self) -> int:
        """Number of open streams that the peer opened."""
        return self._counts[0 if self._is_client else 1]

    def open(self, stream_id: int) -> Stream:
        """Add a stream. The caller has checked the id."""
        stream = Stream(stream_id, self._initial_send_window, self._initial_receive_window)
        self.by_id[stream_id] = stream
        self._counts[stream_id & 1] += 1
        return stream

    def writable(self, stream_id: int) -> Stream:
        """Return the stream. Raises StreamUnavailable if it does not exist or we have ended it."""
        stream: Stream | None = self.by_id.get(stream_id)
        if stream is None or stream.local_closed:
            raise StreamUnavailable(f"stream {stream_id} has ended")
        return stream

    def close_local(self, stream: Stream) -> None:
        """Note that we sent END_STREAM."""
        stream.local_closed = True
        if stream.remote_closed:
            self.forget(stream)

    def close_remote(self, stream: Stream) -> None:
        """Note that the peer sent END_STREAM. Raises StreamFault if the body is shorter than its content-length."""
        if stream.expected is not None and stream.received != stream.expected:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "the body is shorter than its content-length")
        stream.remote_closed = True
        if stream.local_closed:
            self.forget(stream)

    def forget(self, stream: Stream) -> None:
        """Remove a stream that is closed in both directions."""
        if self.by_id.pop(stream.id, None) is not None:
            self._counts[stream.id & 1] -= 1

    def remember_reset(self, stream_id: int, by_us: bool) -> None:
        """Note that RST_STREAM was sent, by us or by the peer."""
        self._resets[stream_id] = by_us
        if len(self._resets) > _REMEMBERED_RESETS:
            self._resets.popitem(last=False)

    def was_reset(self, stream_id: int) -> bool:
        """Whether the stream is remembered as reset."""
        return stream_id in self._resets

    def is_own(self, stream_id: int) -> bool:
        """Whether ids of this kind are for streams that we open."""
        return bool(stream_id & 1) == self._is_client

    def is_idle(self, stream_id: int) -> bool:
        """Whether the stream has not been opened yet."""
        return stream_id >= self.next_own if self.is_own(stream_id) else stream_id > self.highest_peer

    def saw(self, stream_id: int) -> None:
        """Note that the peer used this id for a stream that was not opened. Lower ids of the peer become invalid."""
        if not self.is_own(stream_id):
            self.highest_peer = max(self.highest_peer, stream_id)

    def check_closed(self, stream_id: int, stream: Stream | None) -> None:
        """Reject a frame on a stream whose receiving side has ended, unless the frame crossed our RST_STREAM.

        Raises StreamFault or ConnectionFault.
        """
        by_us = self._resets.get(stream_id)
        if stream is not None or by_us is False:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "a frame after END_STREAM or RST_STREAM")
        if by_us is None:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"a frame on stream {stream_id}, which has ended")

    def resize_send_windows(self, size: int) -> None:
        """Apply the peer's new initial window to the send windows (RFC 9113 section 6.9.2)."""
        if size > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE is {size}")
        difference = size - self._initial_send_window
        self._initial_send_window = size
        for stream in self.by_id.values():
            stream.send_window += difference
            if stream.send_window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window overflows")

    def resize_receive_windows(self, size: int) -> None:
        """Apply our new initial window, which the peer has acknowledged, to the receive windows."""
        difference = size - self._initial_receive_window
        self._initial_receive_window = size
        for stream in self.by_id.values():
            stream.receive_window += difference
