"""What has been counted in a worker's place, over all processes that were in it.

Counters of a replica must not go down while it lives, but a worker that ends takes its counts with it. So the last
counts that it told stay: at a scrape, to the supervisor, which asks regularly, or at an orderly end. What it counted
afterwards is lost. Its gauges go with it.
"""

from collections.abc import Iterable, Iterator

from l4.admin import NoAnswer
from l4.readiness import Readiness
from l4.telemetry.metrics import MAX_SERIES, OVERFLOW, Histogram, Value
from l4.telemetry.samples import FamilySnapshot, HistogramCounts, MetricsSnapshot, merge
from waypoint.process.answering import Passing


class Place:
    """Implements `l4.admin.Part` for the workers that are called `name`, one after the other.

    Of those that have ended, it keeps at most `max_series` series. Further label sets are added to the overflow of
    their family.
    """

    def __init__(self, name: str, max_series: int = MAX_SERIES) -> None:
        self.name = name
        self._max_series = max_series
        self._worker: Passing | None = None
        self._ended: MetricsSnapshot = ()

    def enter(self, worker: Passing) -> None:
        self._worker = worker

    def leave(self) -> None:
        """Keep what the worker has counted."""
        assert self._worker is not None
        counted = (it for it in self._worker.last_metrics if it.kind != "gauge")
        self._ended = tuple(_bounded(merge((self._ended, tuple(counted))), self._max_series))
        self._worker = None

    async def readiness(self) -> Readiness:
        return await self._worker.readiness() if self._worker is not None else Readiness()

    async def metrics(self) -> MetricsSnapshot:
        worker, ended = self._worker, self._ended
        if worker is None:
            return ended
        try:
            found = await worker.metrics()
        except NoAnswer:
            return self._ended
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
