"""What has been counted in a worker's place, over all processes that were in it.

Counters of a replica must not go down while it lives, but a worker that ends takes its counts with it. So the last
counts that it told stay: at a scrape, to the supervisor, which asks regularly, or at an orderly end. What it counted
afterwards is lost. Its gauges go with it.

A worker that does not answer delays a scrape by at most `_FIGURES_SECONDS`. What it told last stands for it.
"""

from collections.abc import Iterable, Iterator

from l4.admin import NoAnswer, answer
from l4.partial import lacks
from l4.readiness import Readiness
from l4.readiness import merge as merge_readiness
from l4.telemetry.metrics import MAX_SERIES, OVERFLOW, Histogram, Value
from l4.telemetry.samples import FamilySnapshot, HistogramCounts, MetricsSnapshot, merge
from waypoint.process.answering import Passing

_FIGURES_SECONDS = 1.0
"""Prometheus waits ten seconds, and scrapes are made one after the other."""
_PROBE_SECONDS = 0.5
"""The kubelet waits one second."""


class Place:
    """Implements `l4.admin.Part` for the workers that are called `name`, one after the other. `silent` is 1
    while the worker does not answer.

    Of those that have ended, it keeps at most `max_series` series. Further label sets are added to the overflow of
    their family.
    """

    def __init__(self, name: str, silent: Value, max_series: int = MAX_SERIES) -> None:
        self.name = name
        self._silent = silent
        self._max_series = max_series
        self._worker: Passing | None = None
        self._readiness = Readiness()
        self._ended: MetricsSnapshot = ()

    def enter(self, worker: Passing) -> None:
        self._worker = worker
        self._readiness = Readiness()

    def leave(self) -> None:
        """Keep what the worker has counted."""
        assert self._worker is not None
        counted = (it for it in self._worker.last_metrics if it.kind != "gauge")
        self._ended = tuple(_bounded(merge((self._ended, tuple(counted))), self._max_series))
        self._worker = None

    async def readiness(self) -> Readiness:
        """A worker that does not answer, or has left, is not missed here: the supervisor tells whether others serve."""
        worker = self._worker
        if worker is None:
            return Readiness()
        try:
            found = await answer(self.name, worker.readiness(), _PROBE_SECONDS)
        except NoAnswer as error:
            if worker is not self._worker:
                return Readiness()
            return merge_readiness((self._readiness, Readiness(concerns={self.name: str(error)})))
        self._readiness = found
        return found

    async def metrics(self) -> MetricsSnapshot:
        worker, ended = self._worker, self._ended
        if worker is None:
            self._silent.value = 0
            return ended
        is_silent = False
        try:
            found = await answer(self.name, worker.metrics(), _FIGURES_SECONDS)
        except NoAnswer as error:
            found = worker.last_metrics
            is_silent = worker is self._worker
            if is_silent:
                lacks(str(error))
        self._silent.value = int(is_silent)
        # A worker that has left meanwhile is in `_ended`, perhaps with fewer counts than it has just told. Nobody has
        # seen these yet, so nothing goes down.
        return merge((ended, found)) if worker is self._worker else self._ended


def _bounded(families: Iterable[FamilySnapshot], most: int) -> Iterator[FamilySnapshot]:
    left = most
    for it in families:
        overflow = (OVERFLOW,) * len(it.label_names)
        kept, rest = {}, []
        for values, sample in it.samples.items():
            left -= Histogram.series if isinstance(sample, HistogramCounts) else Value.series
            if left >= 0 or values == overflow:
                kept[values] = sample
            else:
                rest.append(it.of({overflow: sample}))
        family = it.of(kept)
        for one in rest:
            family = family.merge(one)
        yield family
