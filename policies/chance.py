"""Random decisions of a request. Each has a name, so that a feature that rolls does not affect the rolls of others."""

from collections.abc import Callable
from enum import StrEnum


class Chance(StrEnum):
    """The names that are taken; a new filter may use any other string."""

    DELAY = "delay"
    ABORT = "abort"
    BACKEND = "backend"
    MIRROR = "mirror"


Roll = Callable[[str], float]
"""Returns a random number in [0, 1) for the name of a chance."""
Strikes = Callable[[str, float], bool]
"""Rolls for the name of a chance: True for this share of the requests."""
