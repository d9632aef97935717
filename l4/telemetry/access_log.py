"""Where access-log lines go: a bounded queue, and a thread that writes it out.

`write` never waits: behind a blocked pipe or a full disk lines are dropped and counted in `dropped`, requests go on.
A thread writes what has gathered every 100 ms in one call. The format of a line is its writer's business.

A file is opened for appending and never reopened: rotate it with `copytruncate`.
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


class AccessLog:
    """`path` is a file, or `-` for standard output. Raises OSError when the file cannot be opened."""

    def __init__(self, path: str, max_lines: int = MAX_LINES, flush_seconds: float = FLUSH_SECONDS) -> None:
        self.dropped = 0
        self._path = path
        self._max_lines = max_lines
        self._flush_seconds = flush_seconds
        self._lines: deque[str] = deque()
        self._closing = threading.Event()
        self._is_failing = False
        self._fd = os.dup(STDOUT) if path == "-" else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        self._writer = threading.Thread(target=self._run, name="access-log", daemon=True)
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
            self._write_all("".join(lines).encode("latin-1"))
            self._is_failing = False
        except OSError as error:
            self.dropped += len(lines)
            if not self._is_failing:
                log.error("access log %s: %s; lines are dropped until it can be written again", self._path, error)
            self._is_failing = True

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
        return f"{self._prefix}.{milliseconds:03d}Z"
