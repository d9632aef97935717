"""Since when each condition has its status: `lastTransitionTime`, which the API requires.

Snapshots have no time. The running process keeps this record and updates it with each new snapshot. Tools without a
process use the API's default time.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol

from l4.config.documents import ObjectKey

NEVER = "1970-01-01T00:00:00Z"


class Since(Protocol):
    def __call__(self, key: ObjectKey, place: str, kind: str) -> str:
        """Return the time for the condition `kind` of an object. `place` identifies its parent or target."""


def never(key: ObjectKey, place: str, kind: str) -> str:
    return NEVER


Placed = tuple[ObjectKey, str, str, bool]
"""A condition: its object, position, kind, and whether it is true."""


Record = Mapping[tuple[ObjectKey, str, str], tuple[bool, str]]
"""Whether each condition is true, and since when."""


class Transitions:
    def __init__(self) -> None:
        self._since: Record = {}

    def following(self, conditions: Iterable[Placed], now: datetime) -> Record:
        """Return what `record` takes when these conditions become those of the live configuration. `now` is in UTC.

        Thousands of routes take 50 ms. Call it in a thread, and nothing between it and `record`.
        """
        known, text, record = self._since, now.strftime("%Y-%m-%dT%H:%M:%SZ"), {}
        for key, place, kind, is_true in conditions:
            was = known.get((key, place, kind))
            record[key, place, kind] = was if was is not None and was[0] is is_true else (is_true, text)
        return record

    def record(self, record: Record) -> None:
        """Record the conditions of the live configuration, and forget others."""
        self._since = record

    def since(self, key: ObjectKey, place: str, kind: str) -> str:
        found = self._since.get((key, place, kind))
        return found[1] if found is not None else NEVER
