"""Counts of two workers and more on the same memory: of circuit breakers, and of retry budgets."""

from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.circuit import Circuit, CircuitLimits
from policies.retry_budget import SHARED, RetryBudget, Spending
from policies.shared_counts import SharedCounts
from policies.shared_rows import Rows


def counts(workers: int = 2) -> tuple[list[SharedCounts], Rows]:
    width = workers * SHARED
    memory = memoryview(bytearray(Rows.size(8, workers, width)))
    rows = [Rows(memory, own, workers, width, lambda: nullcontext(True)) for own in range(workers)]
    found = []
    for it in rows:
        payload = it.join("app")
        assert payload is not None
        found.append(SharedCounts(it, payload, SHARED))
    return found, rows[0]


def circuits(limits: CircuitLimits, workers: int = 2) -> tuple[list[Circuit], Rows]:
    shared, rows = counts(workers)
    its = [Circuit(limits) for _ in range(workers)]
    for circuit, each in zip(its, shared, strict=True):
        circuit.share(each)
    return its, rows


def ends(rows: Rows, worker: int) -> None:
    rows.forget(worker, range(worker * SHARED, (worker + 1) * SHARED))


def test_a_worker_reads_the_counts_of_all_others() -> None:
    (first, second, third), _ = counts(3)
    for number, it in enumerate((first, second, third), 1):
        it.put(0, number)
        it.put(1, 10 * number)

    assert [it.others(0) for it in (first, second, third)] == [5, 4, 3]
    assert first.each_of_others(0, 2) == [2, 20, 3, 30]


def test_requests_of_both_workers_count_against_the_limit() -> None:
    (first, second), _ = circuits(CircuitLimits(max_requests=3))

    assert [it.take_request() for it in (first, second, first, second)] == [True, True, True, False]
    assert first.is_full
    assert first.all_requests == second.all_requests == 3
    second.end_request()
    assert first.take_request()


def test_so_do_waiting_requests_and_connections() -> None:
    (first, second), _ = circuits(CircuitLimits(max_connections=2, max_pending_requests=1))

    assert [first.take_pending(), second.take_pending()] == [True, False]
    first.end_pending()
    assert second.take_pending()
    first.begin_connection()
    assert second.may_connect(own=1)
    second.begin_connection()
    assert not first.may_connect(own=1)
    assert first.may_connect(own=0), "an endpoint of this worker gets its first connection in any case"
    second.end_connection()
    assert first.may_connect(own=1)


def test_a_worker_that_ends_gives_back_what_it_held() -> None:
    (first, second), rows = circuits(CircuitLimits(max_requests=2))
    assert [first.take_request() for _ in range(2)] == [True, True]
    assert not second.take_request()

    ends(rows, 0)

    assert second.all_requests == 0
    assert second.take_request()


def test_what_is_active_counts_when_sharing_begins_and_no_longer_when_it_ends() -> None:
    (shared, other), _ = counts()
    first, second = (Circuit(CircuitLimits(max_requests=2)) for _ in range(2))
    second.share(other)
    for _ in range(2):
        first.take_request()

    first.share(shared)
    assert second.is_full
    first.share(None)
    first.end_request()
    assert second.all_requests == 2, "who leaves the row sets its counts to zero"


@pytest.mark.parametrize(("all_of_them", "each"), [(None, None), (0, 0), (1, 1), (2, 1), (5, 2), (100, 50)])
def test_who_cannot_share_has_its_part_of_the_limits(all_of_them: int | None, each: int | None) -> None:
    assert CircuitLimits(*[all_of_them] * 3).divided(2) == CircuitLimits(*[each] * 3)


@given(st.integers(0, 5), st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60))
def test_one_after_the_other_workers_never_exceed_the_limit(limit: int, steps: list[tuple[int, bool]]) -> None:
    its, _ = circuits(CircuitLimits(max_requests=limit), workers=3)
    for worker, takes in steps:
        active = sum(it.requests for it in its)
        if takes:
            assert its[worker].take_request() is (active < limit)
        elif its[worker].requests:
            its[worker].end_request()
        assert {it.all_requests for it in its} == {sum(it.requests for it in its)}


def spendings(budget: RetryBudget) -> tuple[list[Spending], Rows]:
    shared, rows = counts()
    its = [Spending(budget) for _ in shared]
    for spending, each in zip(its, shared, strict=True):
        spending.share(each)
    return its, rows


def test_retries_of_both_workers_count_against_the_budget() -> None:
    (first, second), rows = spendings(RetryBudget())

    assert [it.take(5, 0.0) for it in (first, second, first, second, first)] == [True, True, True, False, False]
    assert first.all_under_way == second.all_under_way == 3
    second.release()
    assert first.take(5, 0.0)
    ends(rows, 0)
    assert second.all_under_way == 0


def test_a_budget_over_a_time_counts_the_requests_and_retries_of_both() -> None:
    budget = RetryBudget(20, interval_seconds=10, min_concurrency=0, min_count=2, min_interval_seconds=1)
    (first, second), _ = spendings(budget)
    for number in range(50):
        first.request(number / 50)
        second.request(number / 50)

    assert sum(it.take(0, 1.0) for it in (first, second) * 25) == 20
    assert [it.take(0, 2.5) for it in (second, first, second)] == [True, True, False]
    assert [it.take(0, 3.7) for it in (first, second, first)] == [True, True, False]
    assert sum(it.take(0, 30.0) for it in (first, second) * 25) == 2


def test_a_new_budget_forgets_what_was_counted_for_the_old_one() -> None:
    (first, second), _ = spendings(RetryBudget(0, interval_seconds=10, min_concurrency=0, min_count=1))
    assert first.take(0, 5.0)
    assert not second.take(0, 5.0)

    for it in (first, second):
        it.follow(RetryBudget(0, interval_seconds=10, min_concurrency=0, min_count=1, min_interval_seconds=2))

    assert [it.take(0, 5.0) for it in (second, first)] == [True, False]


def test_who_cannot_share_has_its_part_of_the_budget() -> None:
    assert RetryBudget(20, min_concurrency=3, min_count=10).divided(2) == RetryBudget(
        20, min_concurrency=1, min_count=5
    )
    assert RetryBudget(20, min_concurrency=1).divided(2) == RetryBudget(20, min_concurrency=1)
