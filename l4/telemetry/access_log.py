"""Files for access-log lines and other lines about requests. See `l4.telemetry.line_writer`.

Callers format the lines. A file is opened for appending. After log rotation, `reopen` opens it again; the programs call
it on SIGUSR1. A file with `max_bytes` rotates by itself: before it would exceed the limit, it is renamed to PATH.1,
replacing the previous one.
"""

import logging
import os
import stat
import time

from l4.telemetry.line_writer import FLUSH_SECONDS, MAX_LINES, LineWriter

log = logging.getLogger(__name__)

STDOUT = 1
_MILLISECONDS = tuple(b".%03dZ" % number for number in range(1000))


class CannotOpenLog(Exception):
    """The log file cannot be opened. The message gives the file and the reason."""


def open_access_log(path: str) -> "AccessLog | None":
    """Open the access log, or return None if `path` is empty. Raises CannotOpenLog."""
    try:
        return AccessLog(path) if path else None
    except OSError as error:
        raise CannotOpenLog(
            f"access log {path} cannot be written: {error.strerror}; choose another with --access-log"
        ) from error


class AccessLog(LineWriter):
    """A log file. `path` is a file, a named pipe, or `-` for standard output.

    Lines are in latin-1. Raises OSError if the file cannot be opened.
    """

    __slots__ = ("_is_moved", "_max_bytes", "_name", "_path", "_size")

    def __init__(
        self,
        path: str,
        max_lines: int = MAX_LINES,
        flush_seconds: float = FLUSH_SECONDS,
        *,
        name: str = "access log",
        max_bytes: int | None = None,
    ) -> None:
        self._path = path
        self._name = name
        self._max_bytes = max_bytes
        self._is_moved = False
        fd = _open(path)
        self._size = os.fstat(fd).st_size
        super().__init__(fd, name, max_lines=max_lines, flush_seconds=flush_seconds, on_failure=self._failed)

    def reopen(self) -> None:
        """Reopen the file. Queued and later lines go to the file that then has the name."""
        self._is_moved = True

    def make_room(self, size: int) -> None:
        if self._is_moved:
            self._is_moved = False
            try:
                self._open_anew()
            except OSError as error:
                log.error("%s %s cannot be reopened: %s; the open file stays in use", self._name, self._path, error)
        if self._max_bytes is not None and self._path != "-" and self._size and self._size + size > self._max_bytes:
            os.replace(self._path, f"{self._path}.1")
            self._open_anew()
        self._size += size

    def _open_anew(self) -> None:
        before, self.fd = self.fd, _open(self._path)
        os.close(before)
        self._size = os.fstat(self.fd).st_size

    def _failed(self, error: OSError) -> None:
        told = "%s %s: %s; lines are dropped until writing succeeds again"
        log.error(told, self._name, self._path, error)


def _open(path: str) -> int:
    if path == "-":
        return os.dup(STDOUT)
    # Opening a named pipe only for writing would block until it has a reader.
    mode = os.O_RDWR if _is_pipe(path) else os.O_WRONLY
    return os.open(path, mode | os.O_APPEND | os.O_CREAT, 0o640)


def _is_pipe(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


class StartTime:
    """Formats wall-clock seconds like Envoy's START_TIME, `2024-05-01T12:00:00.123Z`. The prefix is cached per
    second."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1.0
        self._prefix = b""

    def format(self, wall_seconds: float) -> bytes:
        milliseconds = int((wall_seconds - self._second) * 1000 + 0.5)
        if not 0 <= milliseconds < 1000:
            whole = int(wall_seconds * 1000 + 0.5)
            self._second = float(whole // 1000)
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self._second)).encode()
            milliseconds = whole % 1000
        return self._prefix + _MILLISECONDS[milliseconds]
