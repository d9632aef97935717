"""Where access-log lines go, and other lines about requests: a bounded queue, and a thread that writes it out.

`write` never waits: behind a blocked pipe or a full disk lines are dropped and counted in `dropped`, requests go on.
A thread writes what has gathered every 100 ms in one call. The format of a line is its writer's business.

A file is opened for appending and never reopened: rotate it with `copytruncate`. One with `max_bytes` rotates by
itself: before it would grow beyond, it becomes PATH.1, in place of the one before.
"""

import logging
import os
import select
import threading
import time
from collections import deque

log = logging.getLogger(__name__)

MAX_LINES = 10_000
FLUSH_SECONDS = 0.1
STDOUT = 1
_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))


class AccessLog:
    """`path` is a file, or `-` for standard output. Raises OSError when the file cannot be opened."""

    __slots__ = (
        "_closing",
        "_fd",
        "_flush_seconds",
        "_is_failing",
        "_lines",
        "_max_bytes",
        "_max_lines",
        "_name",
        "_path",
        "_size",
        "_writer",
        "dropped",
    )

    def __init__(
        self,
        path: str,
        max_lines: int = MAX_LINES,
        flush_seconds: float = FLUSH_SECONDS,
        *,
        name: str = "access log",
        max_bytes: int | None = None,
    ) -> None:
        self.dropped = 0
        self._path = path
        self._name = name
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._flush_seconds = flush_seconds
        self._lines: deque[str] = deque()
        self._closing = threading.Event()
        self._is_failing = False
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size
        self._writer = threading.Thread(target=self._run, name=name.replace(" ", "-"), daemon=True)
        self._writer.start()

    def write(self, line: str) -> None:
        """Queue one line, which ends with its newline and holds nothing but latin-1."""
        if len(self._lines) >= self._max_lines:
            self.dropped += 1
        else:
            self._lines.append(line)

    def close(self, deadline_seconds: float = 2.0) -> None:
        """Write what is queued and close; what a blocked reader has not taken by the deadline is lost."""
        self._closing.set()
        self._writer.join(deadline_seconds)

    def _open(self) -> int:
        if self._path == "-":
            return os.dup(STDOUT)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

    def _run(self) -> None:
        try:
            while not self._closing.wait(self._flush_seconds):
                self._flush()
            self._flush()
        finally:
            os.close(self._fd)

    def _flush(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            data = "".join(lines).encode("latin-1")
            self._make_room(len(data))
            self._write_all(data)
            self._size += len(data)
            self._is_failing = False
        except OSError as error:
            self.dropped += len(lines)
            if not self._is_failing:
                told = "%s %s: %s; lines are dropped until it can be written again"
                log.error(told, self._name, self._path, error)
            self._is_failing = True

    def _make_room(self, size: int) -> None:
        if self._max_bytes is None or self._path == "-" or not self._size or self._size + size <= self._max_bytes:
            return
        os.replace(self._path, f"{self._path}.1")
        full, self._fd = self._fd, self._open()
        os.close(full)
        self._size = 0

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                # Standard output may be non-blocking, when whoever started us made it so.
                select.select([], [self._fd], [], self._flush_seconds)


class StartTime:
    """Formats wall-clock seconds as Envoy's START_TIME, `2024-05-01T12:00:00.123Z`; most of it once per second."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def format(self, wall_seconds: float) -> str:
        second, milliseconds = divmod(int(wall_seconds * 1000 + 0.5), 1000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._prefix + _MILLISECONDS[milliseconds]
