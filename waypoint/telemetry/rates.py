"""Rates of finished requests, for `waypoint top` and the page `/top`: counts and durations per group and interval.

Unlike the metrics, they exist only while an operator looks, and can be grouped by route. Groups are bounded; further
ones are added up as `other`. Each row has its counted durations, from which `merge` computes the percentiles of several
waypoints: these cannot be computed from percentiles.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, exp2, log2
from typing import Any

from waypoint.telemetry.record import ExchangeRecord
from waypoint.telemetry.tap import EVERYTHING, Filter, InvalidFilter, is_tcp

Row = Mapping[str, Any]

MAX_GROUPS = 500
DEFAULT_GROUPING = "destination,route"
_STEPS = 8
"""Steps of durations per doubling: a percentile is exact to five percent."""

GROUPINGS: dict[str, Callable[[ExchangeRecord], str]] = {
    "source": lambda record: f"{record.source.namespace}/{record.source.workload}",
    "destination": lambda record: f"{record.service.hostname}:{record.downstream_local[1]}",
    "workload": lambda record: (
        f"{record.endpoint.workload.namespace}/{record.endpoint.workload.workload}"
        if record.endpoint is not None
        else ""
    ),
    "route": lambda record: record.route_name,
    "method": lambda record: record.method.decode("latin-1")[:32],
}


@dataclass(slots=True)
class Durations:
    """Durations in milliseconds, counted in steps, so that their number does not matter."""

    steps: Counter[int] = field(default_factory=Counter)
    longest: float = 0.0

    @classmethod
    def read(cls, steps: Iterable[tuple[int, int]], longest: float) -> "Durations":
        """`steps` are pairs of a step and its count, as in a row."""
        return cls(Counter(dict(steps)), longest)

    def merge(self, other: "Durations") -> None:
        self.steps.update(other.steps)
        self.longest = max(self.longest, other.longest)

    def add(self, milliseconds: float) -> None:
        self.steps[ceil(log2(max(milliseconds, 0.001)) * _STEPS)] += 1
        self.longest = max(self.longest, milliseconds)

    def percentile(self, percent: float) -> float:
        """Return the middle of the step that has the duration at this rank; 0 if there is none."""
        rank = ceil(self.steps.total() * percent / 100)
        for step in sorted(self.steps):
            rank -= self.steps[step]
            if rank <= 0:
                return round(min(exp2((step - 0.5) / _STEPS), self.longest), 3)
        return 0.0


@dataclass(slots=True)
class _Group:
    statuses: Counter[str] = field(default_factory=Counter)
    durations: Durations = field(default_factory=Durations)
    bytes_received: int = 0
    bytes_sent: int = 0
    per_second: float = 0.0

    def row(self) -> dict[str, object]:
        return {
            "requests": self.statuses.total(),
            "per_second": round(self.per_second, 2),
            "errors": self.statuses["5xx"] + self.statuses["none"],
            "statuses": dict(sorted(self.statuses.items())),
            **{f"p{it}_ms": self.durations.percentile(it) for it in (50, 90, 99)},
            "longest_ms": self.durations.longest,
            "durations": sorted(self.durations.steps.items()),
            "bytes_received": self.bytes_received,
            "bytes_sent": self.bytes_sent,
        }

    def add(self, row: Row) -> None:
        self.statuses.update(row["statuses"])
        self.durations.merge(Durations.read(row["durations"], row["longest_ms"]))
        self.bytes_received += row["bytes_received"]
        self.bytes_sent += row["bytes_sent"]
        self.per_second += row["per_second"]


class Rates:
    """Counts requests until `rows` is called. `grouping` names keys of GROUPINGS, separated by commas.

    Raises InvalidFilter.
    """

    def __init__(self, grouping: str = DEFAULT_GROUPING, wanted: Filter = EVERYTHING) -> None:
        self._filter = wanted
        self._names = tuple(dict.fromkeys(grouping.split(",")))
        if unknown := [it for it in self._names if it not in GROUPINGS]:
            raise InvalidFilter(f"requests cannot be grouped by {unknown[0]!r}, but by {', '.join(GROUPINGS)}")
        self._groups: dict[tuple[str, ...], _Group] = {}

    def take(self, record: ExchangeRecord, hidden: frozenset[bytes]) -> None:
        if is_tcp(record) or not self._filter.wants(record):
            return
        key = tuple(GROUPINGS[name](record) for name in self._names)
        group = self._groups.get(key)
        if group is None:
            key = key if len(self._groups) < MAX_GROUPS else ("other",) * len(self._names)
            group = self._groups.setdefault(key, _Group())
        group.statuses[f"{record.status // 100}xx" if record.status else "none"] += 1
        group.durations.add(record.duration_ms)
        group.bytes_received += record.bytes_received
        group.bytes_sent += record.bytes_sent

    def rows(self, seconds: float) -> list[dict[str, object]]:
        """Return one row per group with requests since the last call, which was `seconds` ago; busiest first."""
        groups, self._groups = self._groups, {}
        for group in groups.values():
            group.per_second = group.statuses.total() / seconds
        return _rows(groups, self._names)


def merge(rows: Iterable[Row], names: Sequence[str]) -> list[dict[str, object]]:
    """Return one row per group, by the columns `names`, from the rows of several waypoints for one interval."""
    groups: dict[tuple[str, ...], _Group] = {}
    for row in rows:
        groups.setdefault(tuple(row[it] for it in names), _Group()).add(row)
    return _rows(groups, names)


def _rows(groups: Mapping[tuple[str, ...], _Group], names: Sequence[str]) -> list[dict[str, object]]:
    ordered = sorted(groups.items(), key=lambda it: (-it[1].statuses.total(), it[0]))
    return [dict(zip(names, key, strict=True)) | group.row() for key, group in ordered]
