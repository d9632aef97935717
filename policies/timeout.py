"""Timeouts of an exchange: HTTPRoute `rules[].timeouts`, in seconds. None means no limit."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`request` limits the whole exchange with all attempts, measured from the moment the request was received
    completely.

    The retry policy limits single attempts.
    """

    request: float | None = None


NO_TIMEOUTS = Timeouts()
