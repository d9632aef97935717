"""Outlier detection by all workers of a replica together, as Envoy's threads do it: one has the results of all.

The results of an endpoint stand in a row that all workers find (`policies.shared_rows`). They change under the lock:
with each failure, and with the first success after a failure. Other successes change nothing, and need no lock. A
worker that does not get the lock in time leaves that result out. One worker sweeps for all.
"""

from collections.abc import Iterable

from policies import outlier
from policies.outlier import Health
from policies.shared_rows import Rows

ROW_CELLS = 5
_SWEEP_AT, _CHANGES = range(2)
"""Cells in the row of a destination: when the next sweep is due, and how often an ejection has begun or ended."""


class SharedHealth(Health):
    """Recent results of one endpoint, in a row."""

    __slots__ = ("_counts", "_first", "_times")

    def __init__(self, rows: Rows, first: int) -> None:
        self._counts = rows.counts
        self._times = rows.times
        self._first = first

    @property
    def payload(self) -> int:
        """The first cell of the row's payload."""
        return self._first

    @property
    def errors_5xx(self) -> int:
        return self._counts[self._first]

    @errors_5xx.setter
    def errors_5xx(self, value: int) -> None:
        self._counts[self._first] = value

    @property
    def gateway_errors(self) -> int:
        return self._counts[self._first + 1]

    @gateway_errors.setter
    def gateway_errors(self, value: int) -> None:
        self._counts[self._first + 1] = value

    @property
    def local_failures(self) -> int:
        return self._counts[self._first + 2]

    @local_failures.setter
    def local_failures(self, value: int) -> None:
        self._counts[self._first + 2] = value

    @property
    def multiplier(self) -> int:
        return self._counts[self._first + 3]

    @multiplier.setter
    def multiplier(self, value: int) -> None:
        self._counts[self._first + 3] = value

    @property
    def ejected_until(self) -> float | None:
        return self._times[self._first + 4] or None

    @ejected_until.setter
    def ejected_until(self, value: float | None) -> None:
        self._times[self._first + 4] = value or 0.0


class SharedOutliers:
    """One destination's endpoints. `name` is the destination's, and `first` begins the payload of its row."""

    def __init__(self, rows: Rows, name: str, first: int) -> None:
        self._rows = rows
        self._name = name
        self._first = first
        self._seen = self._changes
        self.lock = rows.lock

    def health(self, endpoint: str) -> Health:
        """Return the results of an endpoint. If there is no room, they are those of this worker."""
        first = self._rows.join((self._name, endpoint))
        return Health() if first is None else SharedHealth(self._rows, first)

    def forget(self, endpoint: str, health: Health) -> None:
        """The endpoint is gone."""
        self._rows.give_up((self._name, endpoint))
        if isinstance(health, SharedHealth):
            self._rows.leave(health.payload)

    def leave(self) -> None:
        """The destination is gone, or is not judged any more."""
        self._rows.leave(self._first)

    def tell(self) -> None:
        """An ejection has begun or ended. The caller holds the lock, and knows it."""
        self._rows.counts[self._first + _CHANGES] += 1
        self._seen = self._changes

    def is_news(self) -> bool:
        """Whether another worker has begun or ended an ejection since the last time."""
        seen, self._seen = self._seen, self._changes
        return seen != self._seen

    def sweep(self, interval: float, healths: Iterable[Health], now: float) -> list[Health]:
        """Return endpoints whose ejection is over to service, once per interval for all workers."""
        times, due = self._rows.times, self._first + _SWEEP_AT
        if now < times[due]:
            return []
        with self.lock() as is_held:
            if not is_held or now < times[due]:
                return []
            times[due] = now + interval
            returned = outlier.sweep(healths, now)
            if returned:
                self.tell()
        return returned

    @property
    def _changes(self) -> int:
        return self._rows.counts[self._first + _CHANGES]
