"""Random decisions of a request. Each has a name, so that a feature that rolls does not affect the rolls of others."""

from collections.abc import Callable
from enum import Enum


class Chance(Enum):
    DELAY = "delay"
    ABORT = "abort"
    BACKEND = "backend"
    MIRROR = "mirror"


Roll = Callable[[Chance], float]
"""Returns a random number in [0, 1) for a `Chance`."""
