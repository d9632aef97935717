"""Buckets of two workers and more on the same memory, in virtual time."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Peer, RequestHead
from policies.rate_limit import Limit, RateLimits, RateRule
from policies.selector import HeaderCondition
from policies.shared_buckets import ROW_CELLS, SharedBuckets, Table
from policies.shared_rows import Lock, Rows

EACH_USER = (HeaderCondition(b"x-user"),)
FIVE_A_MINUTE = Limit(5, 5.0, 5 / 60)


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Another worker decides after the buckets of earlier rules were looked at. This one is no condition of any."""

    happens: Callable[[], object]

    def part(self, head: RequestHead, peer: Peer) -> None:
        self.happens()


class Memory:
    def __init__(self, workers: int = 2, rows: int = 64, buckets: int = 1024) -> None:
        self.workers = workers
        self._rows = memoryview(bytearray(Rows.size(rows, workers, workers * ROW_CELLS)))
        self._tables = memoryview(bytearray(Table.size(buckets)))

    def worker(self, own: int, lock: Lock = lambda: nullcontext(True)) -> SharedBuckets:
        rows = Rows(self._rows, own, self.workers, self.workers * ROW_CELLS, lock)
        it = SharedBuckets(rows, self._tables)
        it.keep(["rule"])
        return it

    def all(self) -> list[SharedBuckets]:
        return [self.worker(own) for own in range(self.workers)]

    def ends(self, own: int) -> None:
        rows = Rows(self._rows, 0, self.workers, self.workers * ROW_CELLS, lambda: nullcontext(True))
        rows.forget(own, range(0))


def limits(
    limit: Limit = FIVE_A_MINUTE, *, is_distinct: bool = False, meanwhile: Meanwhile | None = None
) -> RateLimits:
    conditions, labels = (EACH_USER, ("x-user",)) if is_distinct else ((), ())
    more = () if meanwhile is None else (RateRule("other", "other", limit, (meanwhile,)),)
    return RateLimits("a policy", (RateRule("rule", "rule", limit, conditions, labels), *more))


def passes(buckets: SharedBuckets, its: RateLimits, now: float, user: bytes = b"jason") -> bool:
    head = RequestHead(b"GET", b"app", b"/", b"", [(b"x-user", user)])
    quota = buckets.take(its, head, Peer(None, "10.0.0.1", 1), now)
    assert quota is not None
    return not quota.over


both_kinds = pytest.mark.parametrize("is_distinct", [False, True], ids=["rule", "distinct"])


@both_kinds
def test_two_workers_take_from_one_bucket(is_distinct: bool) -> None:
    first, second = Memory().all()
    its = limits(is_distinct=is_distinct)

    assert [passes(it, its, 100.0) for it in (first, second, second, first, second)] == [True] * 5
    assert not passes(first, its, 100.0)
    assert not passes(second, its, 111.9)
    assert [passes(it, its, 112.1) for it in (second, first)] == [True, False]
    assert [passes(it, its, 300.0) for it in (first, second) * 3] == [True] * 5 + [False]


@both_kinds
def test_a_client_is_told_what_the_replica_has_left(is_distinct: bool) -> None:
    first, second = Memory().all()
    its = limits(is_distinct=is_distinct)
    for it in (first, second, first):
        passes(it, its, 0.0)

    quota = second.take(its, RequestHead(b"GET", b"app", b"/", b"", [(b"x-user", b"jason")]), Peer(None, "", 1), 0.0)

    assert quota is not None
    assert (quota.limit, quota.remaining) == (5, 1)


def test_distinct_values_have_buckets_of_their_own() -> None:
    first, second = Memory().all()
    its = limits(is_distinct=True)

    assert [passes(first, its, 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert passes(second, its, 0.0, b"kay")


@both_kinds
def test_what_a_worker_took_stays_taken_when_it_ends_and_its_successor_goes_on(is_distinct: bool) -> None:
    memory = Memory()
    first, second = memory.all()
    its = limits(is_distinct=is_distinct)
    for it in (first, first, second):
        passes(it, its, 50.0)

    memory.ends(0)
    successor = memory.worker(0)

    assert [passes(it, its, 50.0) for it in (successor, second, successor, second)] == [True, True, False, False]


@both_kinds
def test_the_bucket_keeps_its_share_when_the_limit_changes_in_one_worker_first(is_distinct: bool) -> None:
    first, second = Memory().all()
    before, after = (limits(it, is_distinct=is_distinct) for it in (Limit(8, 8.0, 1.0), Limit(64, 64.0, 8.0)))
    for it in (first, second, first, second):
        passes(it, before, 0.0)

    assert [passes(first, after, 0.0) for _ in range(33)] == [True] * 32 + [False]
    assert not passes(second, before, 0.0)
    assert passes(second, before, 1.0)


def test_a_rule_that_is_gone_in_all_workers_is_forgotten() -> None:
    first, second = Memory().all()
    its = limits()
    for _ in range(5):
        passes(first, its, 0.0)

    first.keep([])
    first.keep(["rule"])
    assert not passes(first, its, 0.0), "the other worker still has it"
    for it in (first, second):
        it.keep([])
    first.keep(["rule"])
    assert passes(first, its, 0.0)


def test_a_bucket_without_a_row_is_divided() -> None:
    memory = Memory(rows=1)
    workers = [memory.worker(own) for own in range(2)]
    for it in workers:
        it.keep(["rule", "another"])
    its = limits(Limit(6, 6.0, 1.0))
    divided = RateLimits("a policy", (RateRule("another", "another", Limit(6, 6.0, 1.0)),))

    counts = [[sum(passes(it, each, 0.0) for _ in range(9)) for it in workers] for each in (its, divided)]

    assert sorted(counts) == [[3, 3], [6, 0]]


def test_a_bucket_that_missed_the_lock_is_shared_from_the_next_request_on() -> None:
    memory, is_free = Memory(), False
    other = memory.worker(1)
    late = memory.worker(0, lambda: nullcontext(is_free))
    its = limits(Limit(4, 4.0, 1.0))
    assert passes(late, its, 0.0)
    is_free = True

    assert [passes(it, its, 0.0) for it in (late, other, late, other, late)] == [True] * 4 + [False]


def test_a_full_table_forgets_in_the_clients_favour() -> None:
    first, second = Memory(buckets=128).all()
    its = limits(Limit(1, 1.0, 1 / 64), is_distinct=True)
    crowd = [b"user-%d" % number for number in range(1000)]

    assert all(passes(first, its, number / 1000, user) for number, user in enumerate(crowd))
    assert sum(not passes(second, its, 1.0, user) for user in crowd) <= 64
    assert not passes(first, its, 1.0, crowd[-1])


def at_once(workers: list[SharedBuckets], limit: Limit, now: float, *, is_distinct: bool) -> int:
    """Each worker looks at the bucket before any other takes from it. Returns how many requests pass."""
    passed = 0

    def decide(rest: Iterator[SharedBuckets]) -> None:
        nonlocal passed
        it = next(rest, None)
        if it is not None:
            its = limits(limit, is_distinct=is_distinct, meanwhile=Meanwhile(lambda: decide(rest)))
            passed += passes(it, its, now)

    decide(iter(workers))
    return passed


STEPS = st.lists(
    st.tuples(st.integers(0, 40), st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True)), max_size=60
)


@both_kinds
@given(st.integers(1, 8), st.integers(-3, 3), STEPS)
def test_even_if_all_decide_at_once_at_most_one_request_per_other_worker_passes_too_many(
    is_distinct: bool, capacity: int, power: int, steps: list[tuple[int, list[int]]]
) -> None:
    rate = Fraction(2) ** power
    workers = Memory(workers=3).all()
    limit = Limit(1, float(capacity), float(rate))
    level, now, too_many = Fraction(capacity), 1000, Fraction(0)
    for wait, who in steps:
        now += wait
        level = min(Fraction(capacity), level + wait * rate)
        alone = [workers[own] for own in who]
        level -= at_once(alone, limit, float(now), is_distinct=is_distinct)
        too_many = min(too_many, level)

    assert too_many >= -2


@both_kinds
@given(st.integers(1, 8), st.integers(-3, 3), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=60))
def test_one_after_the_other_they_do_what_one_would(
    is_distinct: bool, capacity: int, power: int, steps: list[tuple[int, int]]
) -> None:
    rate = Fraction(2) ** power
    workers = Memory(workers=3).all()
    its = limits(Limit(1, float(capacity), float(rate)), is_distinct=is_distinct)
    level, now = Fraction(capacity), 1000
    for wait, own in steps:
        now += wait
        level = min(Fraction(capacity), level + wait * rate)

        assert passes(workers[own], its, float(now)) is (level >= 1)

        level -= level >= 1
