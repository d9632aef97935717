import asyncio
from collections.abc import Awaitable, Callable

import pytest

from l4.admin import NoAnswer
from l4.partial import begin_page
from l4.readiness import Readiness
from l4.telemetry.expiry import PAIR_LABELS
from l4.telemetry.metrics import MAX_SERIES, OVERFLOW, MeshMetrics, Value, counter, gauge, histogram
from l4.telemetry.samples import HistogramCounts, Merging, MetricsSnapshot, Sample, merge
from tests.kit.aio import run
from waypoint.process import places
from waypoint.process.places import Expiry, Place
from waypoint.process.remote import RemoteWorker

REQUESTS = counter("requests", "Requests.", ("service",))
TIMES = histogram("times", "Times.", ("service",))
ACTIVE = gauge("active", "Active requests.", (), Merging.SUM)
APP = ("app",)


class Process:
    """Counts as a worker process does. `worker` asks it."""

    def __init__(self) -> None:
        self.metrics = MeshMetrics("proxy", "test", (REQUESTS, TIMES, ACTIVE))
        self.metrics.of(ACTIVE).labels(()).value = 1
        self.has_ended = False
        self.worker = RemoteWorker("worker 1", self._answer, lambda *note: True)
        self.before_answer: Callable[[], Awaitable[object]] | None = None

    def serve(self, number: int, *, milliseconds: float = 3, trace: str = "", at: float = 0) -> None:
        self.metrics.of(REQUESTS).labels(APP).add(number)
        for _ in range(number):
            self.metrics.of(TIMES).labels(APP).observe(milliseconds)
        if trace:
            self.metrics.of(TIMES).labels(APP).exemplify(milliseconds, trace, at)

    async def _answer(self, question: str) -> MetricsSnapshot:
        assert question == "metrics"
        if self.has_ended:
            raise NoAnswer("worker 1", "has ended")
        found = self.metrics.snapshot()
        if self.before_answer is not None:
            await self.before_answer()
        return found


def sample(snapshot: MetricsSnapshot, name: str, values: tuple[str, ...] = APP) -> Sample:
    (found,) = [it.samples[values] for it in snapshot if it.name == name]
    return found


def test_what_an_ended_worker_told_last_is_added_to_its_successors_counts() -> None:
    async def scenario() -> None:
        place, first, second = Place("worker 1", Value()), Process(), Process()
        assert await place.metrics() == ()
        place.enter(first.worker)
        first.serve(5, trace='trace_id="1"', at=10)
        first.serve(1, milliseconds=700, trace='trace_id="2"', at=11)
        seen = await place.metrics()
        first.serve(1)  # nobody learns of it
        first.has_ended = True
        place.leave()
        between = await place.metrics()
        place.enter(second.worker)
        second.serve(2, trace='trace_id="3"', at=12)
        later = await place.metrics()

        assert [sample(it, "requests") for it in (seen, between, later)] == [6, 6, 8]
        times = sample(later, "times")
        assert isinstance(times, HistogramCounts)
        assert (sum(times.counts), times.sum) == (8, 721.0)
        assert [it.labels for _, it in sorted(times.exemplars.items())] == ['trace_id="3"', 'trace_id="2"']
        assert sample(seen, "active", ()) == sample(later, "active", ()) == 1
        assert "active" not in {it.name for it in between}, "gauges of a dead worker are gone"

    run(scenario())


def test_an_orderly_end_loses_no_count() -> None:
    async def scenario() -> None:
        place, first = Place("worker 1", Value()), Process()
        place.enter(first.worker)
        first.serve(5)
        await place.metrics()
        first.serve(2)
        first.worker.ended(first.metrics.snapshot())
        first.has_ended = True

        assert sample(await place.metrics(), "requests") == 7
        place.leave()
        assert sample(await place.metrics(), "requests") == 7

    run(scenario())


@pytest.mark.parametrize("has_successor", [False, True])
def test_a_worker_that_ends_while_it_is_asked_is_counted_once(has_successor: bool) -> None:
    async def scenario() -> None:
        place, first, second = Place("worker 1", Value()), Process(), Process()
        place.enter(first.worker)
        first.serve(5)
        seen = [await place.metrics()]

        async def ends() -> None:
            place.leave()
            if has_successor:
                place.enter(second.worker)
            await asyncio.sleep(0)

        first.serve(1)
        first.before_answer = ends
        seen += [await place.metrics(), await place.metrics()]

        assert [sample(it, "requests") for it in seen] == [5, 5, 5]

    run(scenario())


def test_ended_workers_keep_a_bounded_number_of_series() -> None:
    async def scenario() -> None:
        place, most = Place("worker 1", Value(), max_series=100), 0
        for process in range(5):
            one = Process()
            place.enter(one.worker)
            for number in range(40):
                one.metrics.of(REQUESTS).labels((f"service {process} {number}",)).add()
            await place.metrics()
            place.leave()
            (found,) = [it for it in await place.metrics() if it.name == "requests"]
            most = max(most, len(found.samples))

        assert sum(int(it) for it in found.samples.values() if isinstance(it, int)) == 200
        assert found.samples[(OVERFLOW,)]
        assert most <= 101 < MAX_SERIES

    run(scenario())


def test_a_worker_that_does_not_answer_counts_as_it_told_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_FIGURES_SECONDS", 0.05)

    async def scenario() -> None:
        silent = Value()
        place, first = Place("worker 1", silent), Process()
        place.enter(first.worker)
        first.serve(5)
        seen = [await place.metrics()]
        first.serve(1)
        lacking = begin_page()
        first.before_answer = asyncio.Event().wait
        seen.append(await place.metrics())
        was_silent = silent.value
        first.worker.is_silent, first.before_answer = True, None
        seen.append(await place.metrics())
        first.worker.is_silent = False
        seen.append(await place.metrics())

        assert [sample(it, "requests") for it in seen] == [5, 5, 5, 6]
        assert [sample(it, "active", ()) for it in seen] == [1] * 4
        assert lacking == ["worker 1 did not answer within 0.05 s", "worker 1 does not answer"]
        assert (was_silent, silent.value) == (1, 0)

    run(scenario())


def test_a_worker_that_does_not_answer_is_as_ready_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_PROBE_SECONDS", 0.05)

    async def scenario() -> None:
        answers: list[Readiness] = [Readiness(), Readiness({"certificate"})]

        async def ask(question: str) -> Readiness:
            return answers.pop(0) if answers else await asyncio.get_running_loop().create_future()

        place = Place("worker 1", Value())
        place.enter(RemoteWorker("worker 1", ask, lambda *note: True))

        assert (await place.readiness()).is_ready
        assert not (await place.readiness()).is_ready
        last = await place.readiness()
        assert last.pending == {"certificate"}
        assert last.concerns == {"worker 1": "worker 1 did not answer within 0.05 s"}

    run(scenario())


GONE, BUSY = (tuple(name for _ in PAIR_LABELS) for name in ("gone", "busy"))


def test_what_expires_in_one_worker_stays_until_no_worker_has_it() -> None:
    async def scenario() -> None:
        its = [Place(f"worker {number}", Value()) for number in (1, 2)]
        processes = [Process(), Process()]
        expiry = Expiry(900, {"requests"})
        for place, process in zip(its, processes, strict=True):
            place.enter(process.worker)
            process.metrics.of(REQUESTS).labels(BUSY).add(10)
            process.metrics.of(REQUESTS).labels(GONE).add(5)
            process.metrics.of(TIMES).labels(GONE).observe(1)

        async def total(values: tuple[str, ...], name: str = "requests") -> Sample | None:
            for it in merge([await place.metrics() for place in its]):
                if it.name == name:
                    return it.samples.get(values)
            raise LookupError(name)

        def expires(process: Process, values: tuple[str, ...]) -> None:
            del process.metrics.of(REQUESTS).children[values]

        assert await total(GONE) == 10
        expires(processes[0], GONE)
        expires(processes[0], BUSY)
        for now in (0, 1000, 2000):
            assert (await total(GONE), await total(BUSY)) == (10, 20)
            expiry.sweep(its, now)
        processes[0].metrics.of(REQUESTS).labels(BUSY).add()
        assert await total(BUSY) == 21

        expires(processes[1], GONE)
        assert await total(GONE) == 10
        expiry.sweep(its, 2100)
        expiry.sweep(its, 2999)
        assert (await total(GONE), await total(BUSY)) == (10, 21)
        expiry.sweep(its, 3000)
        assert (await total(GONE), await total(BUSY)) == (None, 21)
        assert isinstance(await total(GONE, "times"), HistogramCounts), "it does not expire"

        its[0].leave()
        assert await total(BUSY) == 21
        expiry.sweep(its, 4000)
        expiry.sweep(its, 9000)
        assert await total(BUSY) == 21, "the other worker has it"

    run(scenario())


@pytest.mark.parametrize("has_dropped_it", [False, True])
def test_a_series_that_comes_back_in_a_worker_goes_on_or_starts_anew(has_dropped_it: bool) -> None:
    async def scenario() -> None:
        place, process = Place("worker 1", Value()), Process()
        place.enter(process.worker)
        process.serve(5)
        totals = [sample(await place.metrics(), "requests")]
        for family in (process.metrics.of(REQUESTS), process.metrics.of(TIMES)):
            family.hidden[APP] = family.children.pop(APP), 0.0
            if has_dropped_it:
                family.hidden.clear()
        totals.append(sample(await place.metrics(), "requests"))
        for _ in range(3):
            process.serve(1)
            totals.append(sample(await place.metrics(), "requests"))
        place.leave()

        assert totals == [5, 5, 6, 7, 8]
        last = await place.metrics()
        assert sample(last, "requests") == 8
        times = sample(last, "times")
        assert isinstance(times, HistogramCounts)
        assert sum(times.counts) == 8

    run(scenario())
