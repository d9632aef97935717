"""The program's log on standard error: never blocking, and rate-limited per kind of line.

Refused connections cause log lines, possibly thousands per second, and the reader of standard error may have stopped.
Lines are therefore queued for a thread (`l4.telemetry.line_writer`). Of each kind, that is, each place in the code, a
burst of ten lines is written, then one per second; the next line says how many were left out. Two kinds are exempt:
lines of level DEBUG, and lines marked `EACH`, which all differ and whose number the configuration bounds.

Everything else that is printed to standard error (a traceback, a warning) takes the same path.
"""

import io
import logging
import os
import sys
import time
import traceback
from types import TracebackType
from typing import Self

from l4.telemetry.line_writer import DroppedLines, LineWriter

EACH = {"is_each_told": True}
"""For `extra` of a log call: write every line of this kind."""

BURST = 10
LINES_PER_SECOND = 1.0
MAX_LINES = 2000
CLOSE_SECONDS = 2.0
_FLUSH_SECONDS = 0.5
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_STDERR = 2
_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(0x20), 0x7F)} | {ord("\n"): "\\n", ord("\t"): "\t"}

Place = tuple[str, int]


class ProcessLog:
    """A context manager that takes over logging and standard error. At its end, it writes queued lines for up to two
    seconds."""

    def __init__(self) -> None:
        self._writer = LineWriter(os.dup(_STDERR), "process log", max_lines=MAX_LINES, is_prompt=True)
        self._handler = _Handler(self._writer)

    @property
    def drops(self) -> DroppedLines:
        return self._writer.drops

    def write(self, sentence: str) -> None:
        """Write a line regardless of the log level, for the reason why the program exits."""
        self._handler.write(f"{sentence}\n")

    def __enter__(self) -> Self:
        logging.basicConfig(handlers=[self._handler], level=logging.INFO, force=True)
        sys.stderr = _Stream(self._handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, SystemExit):
            self.write("".join(traceback.format_exception(error)).rstrip())
        self._writer.close(CLOSE_SECONDS)


class Sampler:
    """Decides which lines of each place are written."""

    def __init__(self) -> None:
        self._places: dict[Place, tuple[float, float, int]] = {}  # tokens left, since when, and lines left out

    def take(self, place: Place, now: float) -> int | None:
        """Return None if the line is left out, else the number of lines left out before it."""
        left, since, left_out = self._places.get(place, (float(BURST), now, 0))
        left = min(left + (now - since) * LINES_PER_SECOND, BURST)
        if left < 1:
            self._places[place] = left, now, left_out + 1
            return None
        self._places[place] = left - 1, now, 0
        return left_out


class _Handler(logging.Handler):
    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self.setFormatter(_Formatter(_FORMAT))
        self._writer = writer
        self._sampler = Sampler()

    def emit(self, record: logging.LogRecord) -> None:
        left_out: int | None = 0
        if record.levelno > logging.DEBUG and not getattr(record, "is_each_told", False):
            left_out = self._sampler.take((record.pathname, record.lineno), time.monotonic())
        if left_out is None:
            self._writer.drops.sampled.value += 1
            return
        line = self.format(record)
        more = f" ({left_out} similar lines were left out)" if left_out else ""
        self._writer.write(_encoded(f"{line}{more}\n"))

    def write(self, text: str) -> None:
        self.acquire()
        try:
            self._writer.write(_encoded(text))
        finally:
            self.release()

    def flush(self) -> None:
        self._writer.flush(_FLUSH_SECONDS)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        """Keep a message on one line, since it may quote a peer's text."""
        record.message = record.message.translate(_CONTROLS)
        return super().formatMessage(record)


class _Stream(io.TextIOBase):
    """Receives printed text, line by line."""

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._handler.write(f"{line}\n")
        return len(text)
