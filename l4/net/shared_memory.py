"""Anonymous memory that several processes of one program share, and a lock for the little that needs one.

The kernel releases the lock of a process that ends. One that is stopped while it holds the lock delays the others only
up to a deadline.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap

_LOCK_SECONDS = 0.005
"""Time that an event loop may stand still for the lock, which is held for microseconds."""
_PAUSE_SECONDS = 0.0001
"""Pause before another try. It lets the holder run if there is no CPU for both."""


def create(size: int) -> int:
    """Return the descriptor of `size` zero bytes, for `SharedMemory` and for other processes. Raises OSError.

    Pages take memory once they are written to.
    """
    descriptor = os.memfd_create("workers", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    return descriptor


class SharedMemory:
    """`descriptor` stays open as long as the memory is used, because the lock belongs to it. `close` closes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.view = memoryview(mmap(descriptor, os.fstat(descriptor).st_size))

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock against other processes. False if it did not become free in time. Does not nest."""
        deadline = 0.0
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError):
                now = time.monotonic()
                deadline = deadline or now + _LOCK_SECONDS
                if now >= deadline:
                    yield False
                    return
                time.sleep(_PAUSE_SECONDS)
        try:
            yield True
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the descriptor. The memory stays until its last view is gone."""
        os.close(self._descriptor)
