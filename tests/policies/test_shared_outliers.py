"""Outlier detection of two workers on the same memory."""

from contextlib import nullcontext

from hypothesis import given
from hypothesis import strategies as st

from policies import outlier
from policies.outcome import Ending, Outcome
from policies.outlier import Health, OutlierDetection
from policies.shared_outliers import ROW_CELLS, SharedHealth, SharedOutliers
from policies.shared_rows import Rows

POLICY = OutlierDetection(consecutive_5xx=3, consecutive_gateway_errors=2, splits_local_origin=True)
OUTCOMES = [
    Outcome(Ending.RESPONSE, 200),
    Outcome(Ending.RESPONSE, 500),
    Outcome(Ending.RESPONSE, 503),
    Outcome(Ending.RESET),
    Outcome(Ending.TIMEOUT),
]


def two(rows: int = 64) -> list[SharedOutliers]:
    memory = memoryview(bytearray(Rows.size(rows, 2, ROW_CELLS)))
    found = []
    for own in range(2):
        its = Rows(memory, own, 2, ROW_CELLS, lambda: nullcontext(True))
        first = its.join("app")
        assert first is not None
        found.append(SharedOutliers(its, "app", first))
    return found


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(OUTCOMES), st.sampled_from([0.0, 5.0, 40.0]))))
def test_two_workers_judge_an_endpoint_as_one_would(steps: list[tuple[int, Outcome, float]]) -> None:
    alone, both, now = Health(), [it.health("a") for it in two()], 100.0
    for worker, outcome, wait in steps:
        now += wait
        if not (outcome.is_success() and both[worker].is_clean):
            reached = outlier.record(POLICY, both[worker], outcome)
            assert reached == outlier.record(POLICY, alone, outcome)
            if reached:
                all_of_them = [[it, Health(), Health()] for it in (both[worker], alone)]
                ejected = [
                    outlier.eject(OutlierDetection(max_ejection_percent=50), its[0], its, now) for its in all_of_them
                ]
                assert ejected[0] is ejected[1]
        else:
            before = alone.errors_5xx, alone.gateway_errors, alone.local_failures
            outlier.record(POLICY, alone, outcome)
            assert before == (alone.errors_5xx, alone.gateway_errors, alone.local_failures) == (0, 0, 0)
        assert bool(outlier.sweep([both[1 - worker]], now)) is bool(outlier.sweep([alone], now))
        for it in both:
            assert it.is_ejected is alone.is_ejected
            assert it.ejected_until == alone.ejected_until
            assert it.multiplier == alone.multiplier


def test_an_ejection_is_news_to_the_other_worker_once() -> None:
    first, second = two()

    first.tell()

    assert not first.is_news()
    assert [second.is_news(), second.is_news()] == [True, False]


def test_one_worker_sweeps_for_both() -> None:
    first, second = two()
    health, its = first.health("a"), second.health("a")
    outlier.eject(OutlierDetection(max_ejection_percent=100, base_ejection=10), health, [health], 100.0)
    assert first.sweep(10, [health], 100.0) == []

    assert second.sweep(10, [its], 105.0) == [], "the next one is due at 110"
    assert second.sweep(10, [its], 111.0) == [its]
    assert first.sweep(10, [health], 112.0) == []
    assert first.is_news()
    assert not health.is_ejected


def test_an_endpoint_without_room_is_judged_by_each_worker_and_a_forgotten_one_gives_room() -> None:
    first, _ = two(rows=2)
    known = first.health("a")

    alone = first.health("b")

    assert isinstance(known, SharedHealth)
    assert not isinstance(alone, SharedHealth)
    first.forget("b", alone)
    first.forget("a", known)
    assert isinstance(first.health("b"), SharedHealth)


def test_a_destination_that_is_left_gives_room() -> None:
    first, second = two(rows=1)
    assert not isinstance(first.health("a"), SharedHealth)

    for it in (first, second):
        it.leave()

    assert isinstance(first.health("a"), SharedHealth)
