"""What differs between the configuration of a running waypoint and another one: `waypoint config diff`.

Compared is what `/config_dump` shows: destinations with their routes and policies, clusters with their settings, and
problems. Addresses and endpoints are left out, because files lack them and they change by themselves. A service is
named by its hostname and port, since its addresses depend on where the objects come from.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any

import yaml

_LIVE = ("endpoints", "followed")
_CONTEXT_LINES = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs. `running` or `other` is None if only the other side has it."""

    section: str
    name: str
    running: object
    other: object

    @property
    def change(self) -> str:
        if self.running is None:
            return "added"
        return "removed" if self.other is None else "changed"

    @property
    def values(self) -> dict[str, object]:
        return {
            "section": self.section,
            "name": self.name,
            "change": self.change,
            "running": self.running,
            "other": self.other,
        }


def differences(running: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Compare two dumps of `waypoint.config.dump`."""
    ones, others = _sections(running), _sections(other)
    return [
        Difference(section, name, ones[section].get(name), others[section].get(name))
        for section in ones
        for name in sorted(ones[section].keys() | others[section].keys())
        if ones[section].get(name) != others[section].get(name)
    ]


def as_text(found: Iterable[Difference], running: str, other: str) -> str:
    """Return unified diffs, as `kubectl diff` prints them."""
    return "\n".join(line for it in found for line in _diff(it, running, other))


def _sections(dumped: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    destinations: dict[str, object] = {}
    for address, its in dumped["destinations"].items():
        destinations.setdefault(f"{its['service']}:{address.rpartition(':')[2]}", its)
    clusters: dict[str, object] = {
        name: {key: value for key, value in its.items() if key not in _LIVE} for name, its in dumped["clusters"].items()
    }
    problems: dict[str, object] = {it.partition(": ")[2]: True for it in dumped["problems"]}
    return {"destinations": destinations, "clusters": clusters, "problems": problems}


def _diff(it: Difference, running: str, other: str) -> Iterator[str]:
    if it.section == "problems":
        yield f"{'-' if it.other is None else '+'} problem: {it.name}"
        return
    place = f"{it.section}/{it.name}"
    yield from unified_diff(
        _lines(it.running),
        _lines(it.other),
        f"{place} of {running}",
        f"{place} {other}",
        n=_CONTEXT_LINES,
        lineterm="",
    )


def _lines(value: object) -> list[str]:
    return [] if value is None else yaml.safe_dump(value, sort_keys=False, allow_unicode=True).splitlines()
