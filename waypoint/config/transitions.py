"""Since when each condition of the `status` has been true or false: `lastTransitionTime`, which the API requires.

A snapshot knows no time. Whoever runs keeps this beside it, and has it record each new snapshot; where nothing runs,
the time is the one that the API's own defaults have for what nobody has looked at yet.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from l4.config.documents import ObjectKey

NEVER = "1970-01-01T00:00:00Z"


class Since(Protocol):
    def __call__(self, key: ObjectKey, place: str, kind: str) -> str:
        """For the condition `kind` of an object; `place` tells those of its parents or targets apart."""


def never(key: ObjectKey, place: str, kind: str) -> str:
    return NEVER


Placed = tuple[ObjectKey, str, str, bool]
"""A condition: of which object, where, which kind, and whether it is true."""


class Transitions:
    def __init__(self) -> None:
        self._since: dict[tuple[ObjectKey, str, str], tuple[bool, str]] = {}

    def record(self, conditions: Iterable[Placed], now: datetime) -> None:
        """Those of the configuration in force; all others are forgotten. `now` is in UTC."""
        known, self._since = self._since, {}
        text = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        for key, place, kind, is_true in conditions:
            was = known.get((key, place, kind))
            self._since[key, place, kind] = was if was is not None and was[0] is is_true else (is_true, text)

    def since(self, key: ObjectKey, place: str, kind: str) -> str:
        found = self._since.get((key, place, kind))
        return found[1] if found is not None else NEVER
