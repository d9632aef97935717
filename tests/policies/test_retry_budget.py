"""Budgets by lists of calls at given times, and the share that holds in every case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.retry_budget import RetryBudget, Spending, Window


def taken(spending: Spending, calls: int, *, active: int = 0, now: float = 0.0) -> int:
    return sum(spending.take(active, now) for _ in range(calls))


def test_three_retries_may_be_under_way_in_any_case() -> None:
    spending = Spending()

    assert taken(spending, 5, active=5) == 3

    spending.release()
    assert taken(spending, 5, active=5) == 1


def test_a_fifth_of_the_first_attempts_under_way_may_be_retried() -> None:
    spending = Spending()

    assert sum(spending.take(100 + spending.under_way, 0.0) for _ in range(100)) == 20


def test_over_a_time_a_share_of_its_requests_may_be_retried_and_a_least_rate_in_any_case() -> None:
    spending = Spending(RetryBudget(20, interval_seconds=10, min_concurrency=0, min_count=2, min_interval_seconds=1))
    for number in range(100):
        spending.request(number / 100)

    assert taken(spending, 50, now=1.0) == 20
    assert taken(spending, 50, now=2.5) == 2
    assert taken(spending, 50, now=2.6) == 0
    assert taken(spending, 50, now=3.7) == 2


def test_what_is_older_than_the_time_does_not_count() -> None:
    spending = Spending(RetryBudget(20, interval_seconds=10, min_concurrency=0))
    for _ in range(100):
        spending.request(0.0)

    assert taken(spending, 50, now=20.0) == 0


def test_only_a_budget_over_a_time_wants_to_be_told_of_requests() -> None:
    spending = Spending()
    assert not spending.counts_requests

    spending.request(0.0)
    spending.follow(RetryBudget(20, interval_seconds=10))

    assert spending.counts_requests


def test_a_new_policy_knows_of_the_retries_under_way() -> None:
    spending = Spending()
    assert taken(spending, 3) == 3

    spending.follow(RetryBudget(0, min_concurrency=4))

    assert taken(spending, 3) == 1


@pytest.mark.parametrize(("now", "total"), [(0.0, 1), (0.95, 1), (1.01, 0), (1e9, 0)])
def test_a_window_forgets(now: float, total: int) -> None:
    window = Window(1.0)
    window.add(0.0)

    assert window.total(now) == total


@given(st.lists(st.tuples(st.floats(0, 0.5), st.sampled_from(["request", "retry", "release"])), max_size=300))
def test_retries_never_exceed_their_share_of_the_requests(steps: list[tuple[float, str]]) -> None:
    spending = Spending(RetryBudget(20, interval_seconds=1000, min_concurrency=0))
    now, requests, retries = 0.0, 0, 0
    for seconds, step in steps:
        now += seconds
        if step == "request":
            requests += 1
            spending.request(now)
        elif step == "release" and spending.under_way:
            spending.release()
        elif step == "retry":
            retries += spending.take(requests, now)

    assert retries <= requests * 0.2


@given(st.lists(st.sampled_from(["begin", "end", "retry", "release"]), max_size=300))
def test_retries_under_way_never_exceed_a_fifth_of_the_first_attempts_or_three(steps: list[str]) -> None:
    spending = Spending()
    first = 0
    for step in steps:
        if step == "begin":
            first += 1
        elif step == "end" and first:
            first -= 1
        elif step == "release" and spending.under_way:
            spending.release()
        elif step == "retry":
            before = spending.under_way

            if spending.take(first + before, 0.0):
                assert before + 1 <= max(3, first * 0.2)
