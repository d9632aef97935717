"""Put together what several waypoints tell of the same interval.

Each tells once per interval, at a moment of its own. A round has one event of each that is followed. One that falls two
intervals behind, because it hangs or is far away, is missed in that round, and holds nobody up.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

Event = Mapping[str, Any]
Round = dict[str, Event]
_MAX_BEHIND = 2


class Rounds:
    """`names` are those that are followed."""

    def __init__(self, names: Iterable[str]) -> None:
        self._told = dict.fromkeys(names, 0)
        self._rounds: dict[int, Round] = {}
        self._last = 0
        """The number of the last round that is over."""

    @property
    def followed(self) -> Set[str]:
        """The names of those that are still followed."""
        return self._told.keys()

    def take(self, name: str, event: Event) -> Iterator[Round]:
        """Yield the rounds that are over now, with the events by name."""
        number = self._told[name] = max(self._told[name], self._last) + 1
        self._rounds.setdefault(number, {})[name] = event
        yield from self._over()

    def leave(self, name: str) -> Iterator[Round]:
        """Follow this one no more. Yields the rounds that are over now."""
        del self._told[name]
        yield from self._over()

    def _over(self) -> Iterator[Round]:
        newest = max(self._rounds, default=0)
        for number in sorted(self._rounds):
            if not self._told.keys() <= self._rounds[number].keys() and newest - number < _MAX_BEHIND:
                return
            self._last = number
            yield self._rounds.pop(number)
