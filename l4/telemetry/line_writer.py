"""Write lines to a file, pipe or terminal without blocking: a bounded queue and a thread.

A pipe's reader may stop, and a disk may be full. Lines are then dropped and counted, and requests continue. The thread
waits for a line, and if not `is_prompt`, for others that it writes in the same call.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

from l4.telemetry.metrics import Value

MAX_LINES = 10_000
LONG_LINE = 4096
MAX_LONG_LINES = 128
"""A request's line may be as long as its head, or four times that when escaped. Fewer of these may wait."""
FLUSH_SECONDS = 0.1
_POLL_MILLISECONDS = 100
_FLUSH_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class DroppedLines:
    """Numbers of lines not written: queue full, write failed, or enough similar lines written."""

    full: Value = field(default_factory=Value)
    failed: Value = field(default_factory=Value)
    sampled: Value = field(default_factory=Value)

    @property
    def by_reason(self) -> dict[str, Value]:
        return {"full": self.full, "failed": self.failed, "sampled": self.sampled}


class LineWriter:
    """Owns `fd`. Only one thread at a time may call `write`.

    `on_failure` is called when writing fails, once until writing succeeds again.
    """

    __slots__ = (
        "_calls",
        "_closing",
        "_flush_seconds",
        "_has_failed",
        "_is_writing",
        "_lines",
        "_long_queued",
        "_long_taken",
        "_max_lines",
        "_on_failure",
        "_writer",
        "drops",
        "fd",
    )

    def __init__(
        self,
        fd: int,
        name: str,
        *,
        max_lines: int = MAX_LINES,
        flush_seconds: float = FLUSH_SECONDS,
        is_prompt: bool = False,
        on_failure: Callable[[OSError], None] = lambda error: None,
    ) -> None:
        self.fd = fd
        self.drops = DroppedLines()
        self._max_lines = max_lines
        self._flush_seconds = 0.0 if is_prompt else flush_seconds
        self._on_failure = on_failure
        self._lines: deque[bytes] = deque()
        self._long_queued = 0  # number of long lines queued so far; only `write` changes it
        self._long_taken = 0  # number of long lines dequeued so far; only the thread changes it
        self._is_writing = False
        self._has_failed = False
        self._closing = False
        self._calls: SimpleQueue[None] = SimpleQueue()  # wakes the thread
        self._writer = threading.Thread(target=self._run, name=name.replace(" ", "-"), daemon=True)
        self._writer.start()

    def write(self, line: bytes) -> None:
        """Queue a line, which must end with a newline."""
        if len(self._lines) >= self._max_lines or (len(line) > LONG_LINE and not self._has_room_for_long()):
            self.drops.full.value += 1
        else:
            self._lines.append(line)
            if len(self._lines) == 1:
                self._calls.put(None)

    @property
    def dropped(self) -> int:
        """Number of lines not written, for any reason."""
        return sum(value.value for value in self.drops.by_reason.values())

    def flush(self, seconds: float) -> None:
        """Wait at most `seconds` until all queued lines are written."""
        deadline = time.monotonic() + seconds
        while (self._lines or self._is_writing) and time.monotonic() < deadline:
            time.sleep(_FLUSH_POLL_SECONDS)

    def close(self, deadline_seconds: float = 2.0) -> None:
        """Write queued lines and close. What a blocked reader has not read by the deadline is lost."""
        self._closing = True
        self._calls.put(None)
        self._writer.join(deadline_seconds)

    def make_room(self, size: int) -> None:
        """Called before `size` bytes are written. May replace `fd`. Raises OSError."""

    def _has_room_for_long(self) -> bool:
        if self._long_queued - self._long_taken >= MAX_LONG_LINES:
            return False
        self._long_queued += 1
        return True

    def _run(self) -> None:
        try:
            while not self._closing:
                self._calls.get()
                if self._flush_seconds and not self._closing:
                    time.sleep(self._flush_seconds)
                self._write_queued()
                if self._lines:  # of a line that came while others were taken, `write` does not tell
                    self._calls.put(None)
            self._write_queued()
        finally:
            os.close(self.fd)

    def _write_queued(self) -> None:
        self._is_writing = True
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if lines:
            self._write_lines(len(lines), b"".join(lines))
            if self._long_queued != self._long_taken:
                self._long_taken += sum(len(line) > LONG_LINE for line in lines)
        self._is_writing = False

    def _write_lines(self, count: int, data: bytes) -> None:
        try:
            self.make_room(len(data))
            self._write_all(data)
            self._has_failed = False
        except OSError as error:
            self.drops.failed.value += count
            if not self._has_failed:
                self._on_failure(error)
            self._has_failed = True

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                # Standard output may be non-blocking, as inherited from the parent process.
                waiting = select.poll()
                waiting.register(self.fd, select.POLLOUT)
                waiting.poll(_POLL_MILLISECONDS)
