"""Pairs of figures, ours and a peer's, and what they say together: medians, and the ratio pair by pair.

On a machine that others use too, absolute figures drift, but the two turns of a pair are only seconds apart. So the
ratio is taken inside each pair, and the median is taken of the ratios.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

SYSTEMS = ("ours", "peer")

Figures = dict[str, float]
Pair = Mapping[str, Figures]
"""The figures of each of `SYSTEMS`. The peer is Envoy, unless the scenario names another one."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One figure of one scenario, over all pairs that count. Ratios are ours to the peer's; None where that is 0."""

    ours: float
    peer: float
    ratio: float | None
    least: float | None
    most: float | None


def summarize(pairs: Sequence[Pair]) -> dict[str, Summary]:
    """By the figures' names, in their order. There is at least one pair."""
    return {key: _summary(pairs, key) for key in pairs[0]["ours"]}


def turn(number: int) -> tuple[str, ...]:
    """Who goes first in a pair: who does pays for warming up what both use, 1.1 × at one connection."""
    return SYSTEMS if number % 2 else SYSTEMS[::-1]


def _summary(pairs: Sequence[Pair], key: str) -> Summary:
    ours, theirs = (median(pair[name][key] for pair in pairs) for name in SYSTEMS)
    ratios = [pair["ours"][key] / pair["peer"][key] for pair in pairs if pair["peer"][key]]
    if not ratios:
        return Summary(ours, theirs, None, None, None)
    return Summary(ours, theirs, median(ratios), min(ratios), max(ratios))
