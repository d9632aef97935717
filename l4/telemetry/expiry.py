"""Lets series expire whose workloads are gone, so that a scrape does not grow with every Pod that ever was.

All series of one caller, service and workload expire together, when nothing was counted in any of them for a time, and
nobody holds one: an open connection keeps the series in which it counts. So what is opened and what is closed, or
requests with and without errors, still add up. Istio expires each series by itself, if it is told to
(METRIC_ROTATION_INTERVAL).

A series that has expired is not shown, but its counts are kept for `HIDDEN_SECONDS`. One that comes back in this time
goes on, and who adds up the counts of several workers sees that it was gone. Later it starts at 0, which Prometheus
takes for a restart.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from l4.config.settings import Section, setting
from l4.telemetry.held import is_held
from l4.telemetry.metrics import DESTINATION_LABELS, OVERFLOW, SOURCE_LABELS, MeshMetrics
from l4.telemetry.samples import Sample

HIDDEN_SECONDS = 60.0
_LOOKS = 4
"""How often a series is looked at in the time after which it expires, at least."""
_MAX_PAUSE_SECONDS = 60.0
_RETRY_SECONDS = 0.1

PAIR_LABELS = ("reporter", *SOURCE_LABELS, *DESTINATION_LABELS)
"""The first labels of each metric that expires."""
Pair = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetricsSettings(Section):
    title = "Metrics"

    metrics_expiry_seconds: float = setting(900.0, least=0.0)
    """Time after which Istio's metrics of a caller, service and workload are no longer shown, if nothing was counted
    in them and no connection that counts in them is open. 0: never. With several workers it takes up to twice this
    time."""


def pair_of(values: tuple[str, ...]) -> Pair:
    """Return caller, service and workload of a series, by its label values."""
    return values[: len(PAIR_LABELS)]


class Expiry:
    """What has been found of the series of `metrics` at the last look."""

    def __init__(self, metrics: MeshMetrics) -> None:
        self._metrics = metrics
        self._samples: dict[tuple[str, tuple[str, ...]], Sample] = {}
        self._used: dict[Pair, float] = {}

    def look(self, now: float, seconds: float) -> bool:
        """Hide series that have expired. Returns whether it was possible: a thread that reads them now holds them."""
        reading = self._metrics.reading
        if not reading.acquire(blocking=False):
            return False
        try:
            self._used = self._use(now)
            self._settle_hidden(now)
            old = {pair for pair, at in self._used.items() if now - at >= seconds}
            if old:
                self._hide(old, now)
        finally:
            reading.release()
        return True

    def _settle_hidden(self, now: float) -> None:
        """Show series again of which the pair has come back, and forget those that were hidden long ago."""
        for family in self._metrics.expiring:
            for values, (child, since) in list(family.hidden.items()):
                if pair_of(values) in self._used:
                    family.children[values] = child
                    del family.hidden[values]
                elif now - since >= HIDDEN_SECONDS:
                    del family.hidden[values]
                    if values[0] != OVERFLOW:
                        family.budget.give_back(family.series)

    def _use(self, now: float) -> dict[Pair, float]:
        """Return when each pair was last used."""
        used: dict[Pair, float] = {}
        before, self._samples = self._samples, {}
        for family in self._metrics.expiring:
            for values in list(family.children):
                is_used = is_held(family.children, values)
                key, sample, pair = (family.metric.name, values), family.children[values].sample(), pair_of(values)
                is_used = is_used or before.get(key) != sample
                self._samples[key] = sample
                at = now if is_used else self._used.get(pair, now)
                used[pair] = max(at, used.get(pair, at))
        return used

    def _hide(self, pairs: set[Pair], now: float) -> None:
        for family in self._metrics.expiring:
            for values in list(family.children):
                if pair_of(values) in pairs:
                    family.hidden[values] = family.children.pop(values), now


async def expire(metrics: MeshMetrics, seconds: float, let_go: Callable[[], None] = lambda: None) -> None:
    """Let series expire after `seconds`, until cancelled. `let_go` drops what is kept only to find series sooner."""
    loop, expiry = asyncio.get_running_loop(), Expiry(metrics)
    while True:
        await asyncio.sleep(min(seconds / _LOOKS, _MAX_PAUSE_SECONDS))
        let_go()
        while not expiry.look(loop.time(), seconds):
            await asyncio.sleep(_RETRY_SECONDS)
            let_go()
