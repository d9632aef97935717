"""What requests leave to chance. Each roll has a name, so that a feature that rolls shifts nobody else's dice."""

from collections.abc import Callable
from enum import Enum


class Chance(Enum):
    DELAY = "delay"
    ABORT = "abort"
    BACKEND = "backend"
    MIRROR = "mirror"


Roll = Callable[[Chance], float]
"""Gives a number in [0, 1) for a chance."""
