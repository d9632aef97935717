"""Flood protection of one HTTP/2 connection: counters in front of the engine, the same for both engines.

Each rule stops an attack whose frames are all valid but harmful in number: rapid reset (CVE-2023-44487), resets that
the peer provokes (CVE-2025-8671), heads in endless CONTINUATION frames (CVE-2024-27316), and floods of PING, SETTINGS,
PRIORITY, WINDOW_UPDATE, empty and tiny frames (CVE-2019-9511 to 9518). Exceeding a limit ends the connection with
ENHANCE_YOUR_CALM and names the limit.

`now` is the time of the read that returned the frames; there is no clock here. Full DATA frames are counted once per
read, not one by one.
"""

import sys

from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.flood_limits import FloodLimits
from l4.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PRIORITY_UPDATE,
    SETTINGS,
    WINDOW_UPDATE,
)

_RATE_SECONDS = 10.0
_EMPTY_RATE_SECONDS = 60.0


class Flood(ConnectionFault):
    """The peer exceeded a limit. `reason` is the limit's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(ErrorCode.ENHANCE_YOUR_CALM, f"more than {reason} allows", reason)


class Bucket:
    """A token bucket of `burst` tokens, refilled at `per_second`."""

    __slots__ = ("_burst", "_per_second", "_tokens", "_updated")

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._tokens = float(burst)
        self._updated = 0.0

    def take(self, now: float) -> bool:
        tokens = min(self._burst, self._tokens + (now - self._updated) * self._per_second)
        self._updated = now
        self._tokens = max(0.0, tokens - 1)
        return tokens >= 1


class FloodGuard:
    """The counters of one connection. Every counting method raises Flood if its limit is exceeded."""

    __slots__ = (
        "_data_bytes",
        "_data_frames",
        "_data_since",
        "_empty_frames",
        "_empty_in_a_row",
        "_ended",
        "_head_bytes",
        "_head_frames",
        "_limits",
        "_max_head_bytes",
        "_max_streams",
        "_own_resets",
        "_pings",
        "_premature_resets",
        "_priority_frames",
        "_queued",
        "_sent_before",
        "_settings_frames",
        "_streams",
        "_tiny_data_frames",
        "_unanswered",
        "_window_updates",
        "data_frames_sent",
        "head_since",
    )

    def __init__(self, limits: FloodLimits, max_head_bytes: int, max_streams: int, *, is_client: bool = False) -> None:
        self._limits = limits
        # A client asked for the data that it gets, and its windows bound them: streams of tiny messages are no flood.
        self._tiny_data_frames = sys.maxsize if is_client else limits.http2_tiny_data_frames
        self._premature_resets = Bucket(limits.http2_premature_resets, limits.http2_premature_resets_per_second)
        self._own_resets = Bucket(limits.http2_own_resets, limits.http2_own_resets_per_second)
        self._pings = Bucket(limits.http2_pings, limits.http2_pings / _RATE_SECONDS)
        self._settings_frames = Bucket(limits.http2_settings_frames, limits.http2_settings_frames / _RATE_SECONDS)
        self._empty_frames = Bucket(limits.http2_empty_frames, limits.http2_empty_frames / _EMPTY_RATE_SECONDS)
        self._empty_in_a_row = 0
        self.head_since: float | None = None  # start time of the incomplete head
        self._head_frames = 0
        self._head_bytes = 0
        self._max_head_bytes = max_head_bytes
        self._max_streams = max_streams
        self._queued = 0
        self._ended = 0
        self._priority_frames = 0
        self._window_updates = 0
        self._data_frames = 0
        self._data_bytes = 0
        self._data_since = 0.0
        self._sent_before = 0
        self._streams = 0  # ever opened, by either side
        self._unanswered: dict[int, float] = {}  # peer's streams without our response head → time of opening
        self.data_frames_sent = 0  # in units of the default maximum frame size, because peers return windows by bytes

    # -- incoming frames -------------------------------------------------------------------------------------------

    def frame(self, kind: int, flags: int, payload: bytes, now: float) -> None:
        """Count any frame except full DATA frames."""
        limits = self._limits
        if kind == HEADERS:
            self._head_frames = self._head_bytes = 0
            self.head_begins(now)
            self._piece_of_head(flags, payload, now)
        elif kind == DATA:
            if _is_hollow(flags, payload):
                self._empty_frame(now)
            else:
                self.data(1, len(payload), now)
        elif kind == WINDOW_UPDATE:
            self._window_updates += 1
            earned = self._streams + limits.http2_window_updates * self.data_frames_sent
            if self._window_updates > 5 + 2 * earned:
                raise Flood("http2_window_updates")
        elif kind == CONTINUATION:
            self._piece_of_head(flags, payload, now)
        elif kind == PING:
            if not self._pings.take(now):
                raise Flood("http2_pings")
        elif kind == SETTINGS:
            if not self._settings_frames.take(now):
                raise Flood("http2_settings_frames")
        elif kind in (PRIORITY, PRIORITY_UPDATE):
            self._priority_frames += 1
            if self._priority_frames > limits.http2_priority_frames * (1 + self._streams):
                raise Flood("http2_priority_frames")

    def head_begins(self, now: float) -> None:
        """Note that a head has begun: enough of its first frame was received to recognize it."""
        if self.head_since is None:
            self.head_since = now

    def data(self, count: int, length: int, now: float) -> None:
        """Count `count` non-empty DATA frames with `length` bytes in total."""
        self._empty_in_a_row = 0
        if not self._data_frames:
            self._data_since = now
            self._sent_before = self.data_frames_sent
        self._data_frames += count
        self._data_bytes += length
        if self._data_frames > self._tiny_data_frames:
            self._judge_data(now)

    def _judge_data(self, now: float) -> None:
        limits, frames_in_all = self._limits, self._data_frames
        # A peer that reads HTTP/2 inside a tunnel returns windows in tiny frames, in proportion to what we send.
        unasked = frames_in_all - 2 * (self.data_frames_sent - self._sent_before)
        is_tiny = self._data_bytes < frames_in_all * limits.http2_tiny_data_bytes
        if is_tiny and unasked > (now - self._data_since) * limits.http2_tiny_data_frames_per_second:
            raise Flood("http2_tiny_data_frames")
        self._data_frames = self._data_bytes = 0

    def _piece_of_head(self, flags: int, payload: bytes, now: float) -> None:
        """Count parts of a head on arrival, because nothing can be decoded before the last part."""
        if flags & END_HEADERS:
            self.head_since = None
        self._head_frames += 1
        self._head_bytes += len(payload)
        if self._head_frames > self._limits.http2_head_frames:
            raise Flood("http2_head_frames")
        if self._head_bytes > self._max_head_bytes:
            raise Flood("max_header_list_size")
        if _is_hollow(flags, payload):
            self._empty_frame(now)
        else:
            self._empty_in_a_row = 0

    def _empty_frame(self, now: float) -> None:
        self._empty_in_a_row += 1
        if self._empty_in_a_row > self._limits.http2_consecutive_empty_frames:
            raise Flood("http2_consecutive_empty_frames")
        if not self._empty_frames.take(now):
            raise Flood("http2_empty_frames")

    # -- streams ---------------------------------------------------------------------------------------------------

    def opened_by_us(self) -> None:
        self._streams += 1

    def opened(self, stream_id: int, now: float) -> None:
        """Count a stream that the peer opened and that waits for our response head.

        If more streams than allowed at once have ended and the peer has not read that, it is not reading our output.
        """
        if self._ended > self._max_streams:
            raise Flood("http2_queued_control_frames")
        self._streams += 1
        self._unanswered[stream_id] = now

    def answered(self, stream_id: int) -> None:
        """Note that our response head was sent, or that we ended the stream without one."""
        self._unanswered.pop(stream_id, None)

    def reset_by_peer(self, stream_id: int, now: float) -> None:
        opened = self._unanswered.pop(stream_id, None)
        is_premature = opened is not None and now - opened < self._limits.http2_premature_seconds
        if is_premature and not self._premature_resets.take(now):
            raise Flood("http2_premature_resets")

    def reset_provoked(self, now: float) -> None:
        """Count an error of the peer that is answered with RST_STREAM."""
        if not self._own_resets.take(now):
            raise Flood("http2_own_resets")

    # -- queued output ---------------------------------------------------------------------------------------------

    def queued(self, count: int = 1) -> None:
        """Count queued answers to the peer's frames, which the peer may never read."""
        self._queued += count
        if self._queued > self._limits.http2_queued_control_frames:
            raise Flood("http2_queued_control_frames")

    def ended_by_us(self) -> None:
        """Note that END_STREAM or RST_STREAM was queued."""
        self._ended += 1

    def flushed(self) -> None:
        self._queued = self._ended = 0


def _is_hollow(flags: int, payload: bytes) -> bool:
    """Whether a DATA frame carries nothing but padding, not even END_STREAM."""
    if flags & END_STREAM:
        return False
    return not payload or (flags & PADDED != 0 and payload[0] + 1 >= len(payload))
