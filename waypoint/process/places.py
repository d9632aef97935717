"""What has been counted in a worker's place, over all processes that were in it.

Counters of a replica must not go down while it lives, but a worker that ends takes its counts with it. So the last
counts that it told stay: at a scrape, to the supervisor, which asks regularly, or at an orderly end. What it counted
afterwards is lost. Its gauges go with it.

For the same reason the counts of series stay that expired in one worker, while others may still count in them. If the
worker has such a series again, and tells no less of it, it goes on; if it tells less, it has started anew, and what it
told before is added. `Expiry` drops what stayed in all places at once, when no worker has such a series any more.

A worker that does not answer delays a scrape by at most `_FIGURES_SECONDS`. What it told last stands for it.
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator
from itertools import chain

from l4.admin import NoAnswer, answer
from l4.partial import lacks
from l4.readiness import Readiness
from l4.readiness import merge as merge_readiness
from l4.telemetry.expiry import Pair, pair_of
from l4.telemetry.metrics import MAX_SERIES, OVERFLOW, Value
from l4.telemetry.samples import FamilySnapshot, HistogramCounts, MetricsSnapshot, Sample, merge
from waypoint.process.answering import Passing

SeriesKey = tuple[str, tuple[str, ...]]
"""A metric's name, and label values."""

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
        self._told: MetricsSnapshot = ()
        self._gone: MetricsSnapshot = ()

    @property
    def told(self) -> Iterator[SeriesKey]:
        """The series that the worker has told last."""
        return _series(self._told)

    @property
    def kept(self) -> Iterator[SeriesKey]:
        """The series that have stayed, of workers that have ended or have them no more."""
        return chain(_series(self._ended), _series(self._gone))

    def enter(self, worker: Passing) -> None:
        self._worker = worker
        self._readiness = Readiness()

    def leave(self) -> None:
        """Keep what the worker has counted."""
        assert self._worker is not None
        self._note(self._worker.last_metrics)
        self._keep(_counted(self._told), self._gone)
        self._worker, self._told, self._gone = None, (), ()

    def forget(self, is_dead: Callable[[SeriesKey], bool]) -> None:
        """Drop what has stayed of some series."""
        self._ended = _without(self._ended, is_dead)
        self._gone = _without(self._gone, is_dead)

    def _keep(self, *families: MetricsSnapshot) -> None:
        self._ended = tuple(_bounded(merge((self._ended, *families)), self._max_series))

    def _note(self, told: MetricsSnapshot) -> None:
        """Take what the worker has told last, beside what it told before of series that it has no more."""
        if told is self._told:
            return
        counts = {key: _count(sample) for key, sample in _samples(told)}
        before = merge((_counted(self._told), self._gone))
        self._gone = _without(before, lambda key: key in counts)
        anew = {key for key, sample in _samples(before) if counts.get(key, _count(sample)) < _count(sample)}
        if anew:
            self._keep(_without(before, lambda key: key not in anew))
        self._told = told

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
        worker = self._worker
        if worker is None:
            self._silent.value = 0
            return self._ended
        is_silent = False
        try:
            await answer(self.name, worker.metrics(), _FIGURES_SECONDS)
        except NoAnswer as error:
            is_silent = worker is self._worker
            if is_silent:
                lacks(str(error))
        self._silent.value = int(is_silent)
        # A worker that has left meanwhile is in `_ended`, perhaps with fewer counts than it has just told. Nobody has
        # seen these yet, so nothing goes down.
        if worker is not self._worker:
            return self._ended
        self._note(worker.last_metrics)
        return merge((self._ended, self._gone, self._told))


class Expiry:
    """Drops what has stayed of pairs of workloads that expire, once no worker has had them for `seconds`. `names` are
    the metrics that expire."""

    def __init__(self, seconds: float, names: Container[str]) -> None:
        self._seconds = seconds
        self._names = names
        self._since: dict[Pair, float] = {}

    def sweep(self, places: Collection[Place], now: float) -> None:
        """Drop from all places at once: a total of which a part is missing would look like a restart."""
        kept = {pair_of(values) for place in places for values in self._expiring(place.kept)}
        kept.difference_update(pair_of(values) for place in places for values in self._expiring(place.told))
        self._since = {pair: self._since.get(pair, now) for pair in kept}
        dead = {pair for pair, since in self._since.items() if now - since >= self._seconds}
        if dead:
            for place in places:
                place.forget(lambda key: key[0] in self._names and pair_of(key[1]) in dead)

    def _expiring(self, series: Iterable[SeriesKey]) -> Iterator[tuple[str, ...]]:
        return (values for name, values in series if name in self._names)


def _samples(families: MetricsSnapshot) -> Iterator[tuple[SeriesKey, Sample]]:
    return (((it.name, values), sample) for it in families for values, sample in it.samples.items())


def _series(families: MetricsSnapshot) -> Iterator[SeriesKey]:
    return (key for key, _ in _samples(families))


def _count(sample: Sample) -> int:
    return sum(sample.counts) if isinstance(sample, HistogramCounts) else sample


def _counted(families: MetricsSnapshot) -> MetricsSnapshot:
    return tuple(it for it in families if it.kind != "gauge")


def _without(families: MetricsSnapshot, is_dropped: Callable[[SeriesKey], bool]) -> MetricsSnapshot:
    return tuple(
        family.of({values: it for values, it in family.samples.items() if not is_dropped((family.name, values))})
        for family in families
    )


def _bounded(families: Iterable[FamilySnapshot], most: int) -> Iterator[FamilySnapshot]:
    left = most
    for it in families:
        overflow = (OVERFLOW,) * len(it.label_names)
        kept, rest = {}, []
        for values, sample in it.samples.items():
            left -= len(sample.counts) + 2 if isinstance(sample, HistogramCounts) else 1
            if left >= 0 or values == overflow:
                kept[values] = sample
            else:
                rest.append(it.of({overflow: sample}))
        family = it.of(kept)
        for one in rest:
            family = family.merge(one)
        yield family
