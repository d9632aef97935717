"""The log of a program, on standard error: never waited for, and no kind of line in any number.

Who connects and is refused causes a line, and may do so thousands of times a second; who reads our standard error may
have stopped. So lines are queued for a thread (`l4.telemetry.line_writer`), and of each kind, that is each place in the
code, only some are written: ten at once, one each second afterwards, and the next one says how many were left out. Not
counted are lines of level DEBUG, which somebody has asked for, and those marked `EACH`: where each says something else
and their number is bounded by what we are configured with.

Whatever else is printed to standard error (a traceback, a warning) takes the same way.
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
"""For `extra` of a log call: each of its lines is written."""

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
    """Takes over logging and standard error from `with` on until its end, when what is queued is written, for two
    seconds at most."""

    def __init__(self) -> None:
        self._writer = LineWriter(os.dup(_STDERR), "process log", max_lines=MAX_LINES, is_prompt=True, encoding="utf-8")
        self._handler = _Handler(self._writer)

    @property
    def drops(self) -> DroppedLines:
        return self._writer.drops

    def write(self, sentence: str) -> None:
        """As it is, whatever level is set: why the program ends."""
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
    """Which lines of each place are written."""

    def __init__(self) -> None:
        self._places: dict[Place, tuple[float, float, int]] = {}  # what is left, since when, and how many were not

    def take(self, place: Place, now: float) -> int | None:
        """None when the line is left out, else how many were before it."""
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
        more = f" ({left_out} more like it were left out)" if left_out else ""
        self._writer.write(f"{line}{more}\n")

    def write(self, text: str) -> None:
        self.acquire()
        try:
            self._writer.write(text)
        finally:
            self.release()

    def flush(self) -> None:
        self._writer.flush(_FLUSH_SECONDS)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        """A message may quote what a peer sent: it stays one line."""
        record.message = record.message.translate(_CONTROLS)
        return super().formatMessage(record)


class _Stream(io.TextIOBase):
    """What is printed, by lines."""

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._handler.write(f"{line}\n")
        return len(text)
