"""Wait for what the cluster is about to do."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 90.0


def until(what: Callable[[], T], seconds: float = SECONDS) -> T:
    """Waits until `what` is true and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s; last: {found!r}"
        time.sleep(0.3)
    return found
