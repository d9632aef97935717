"""A transport that records the bytes that a protocol writes, for tests that play the peer by hand."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.contracts.http2_engine import Frame, split


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False
        self.is_aborted = False
        self.on_write: Callable[[], None] = lambda: None

    def write(self, data: Any) -> None:
        self.written += data
        self.on_write()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def take(self) -> list[Frame]:
        written, self.written = self.written, b""
        return split(written)
