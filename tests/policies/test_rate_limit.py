"""Buckets in virtual time, alone and against a slow model of themselves."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Identity, Peer, RequestHead
from policies.rate_limit import Buckets, Limit, RateLimits, RateRule
from policies.selector import HeaderCondition, IdentityCondition

FIVE_A_MINUTE = Limit(5, 5.0, 5 / 60)
EACH_USER = (HeaderCondition(b"x-user"),)


def limits(*rules: RateRule, **fields: bool) -> RateLimits:
    return RateLimits("a policy", rules, **fields)


def rule(limit: Limit = FIVE_A_MINUTE, name: str = "rule", **fields: object) -> RateRule:
    return RateRule(name, name, limit, **fields)  # type: ignore[arg-type]


class Client:
    def __init__(self, buckets: Buckets, its: RateLimits, user: bytes = b"jason", account: str = "page") -> None:
        self._buckets, self._limits = buckets, its
        self._head = RequestHead(b"GET", b"app", b"/", b"", [(b"x-user", user)])
        self._peer = Peer(Identity("cluster.local", "default", account), "10.0.0.1", 1)

    def passes(self, now: float) -> bool:
        quota = self._buckets.take(self._limits, self._head, self._peer, now)
        return quota is None or not quota.over

    def told(self, now: float) -> tuple[int, int, int]:
        quota = self._buckets.take(self._limits, self._head, self._peer, now)
        assert quota is not None
        return quota.limit, quota.remaining, quota.reset_seconds


def test_as_many_as_asked_for_pass_at_once_and_then_one_for_each_share_of_the_minute() -> None:
    it = Client(Buckets(), limits(rule()))

    assert [it.passes(100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not it.passes(111.9)
    assert [it.passes(112.1) for _ in range(2)] == [True, False]
    assert [it.passes(300.0) for _ in range(6)] == [True] * 5 + [False]


def test_the_burst_is_what_may_come_at_once() -> None:
    it = Client(Buckets(), limits(rule(Limit(60, 2.0, 1.0))))

    assert [it.passes(0.0) for _ in range(3)] == [True, True, False]
    assert it.passes(1.0)


def test_distinct_values_have_buckets_of_their_own() -> None:
    buckets, its = Buckets(), limits(rule(conditions=EACH_USER, labels=("x-user",)))
    jason, kay = Client(buckets, its), Client(buckets, its, b"kay")

    assert [jason.passes(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert kay.passes(0.0)


def test_client_identities_have_buckets_of_their_own() -> None:
    buckets, its = Buckets(), limits(rule(conditions=(IdentityCondition(is_distinct=True),), labels=("x-user",)))
    page, other = Client(buckets, its), Client(buckets, its, account="other")

    assert [page.passes(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert other.passes(0.0)


def test_a_request_without_the_value_is_not_the_rules_business() -> None:
    missing = rule(conditions=(HeaderCondition(b"x-missing"),), labels=("x-user",))
    it = Client(Buckets(), limits(missing))

    assert all(it.passes(0.0) for _ in range(100))


def test_the_tightest_rule_refuses_and_is_told_and_the_others_lose_nothing() -> None:
    wide = rule(Limit(100, 100.0, 100.0), "wide")
    buckets = Buckets()
    it = Client(buckets, limits(wide, rule()))
    alone = Client(buckets, limits(wide))

    assert it.told(0.0) == (5, 4, 0)
    assert [it.passes(0.0) for _ in range(10)] == [True] * 4 + [False] * 6
    assert it.told(0.0) == (5, 0, 12)
    assert alone.told(0.0) == (100, 94, 0)


def test_a_shadow_counts_and_lets_pass() -> None:
    buckets, its = Buckets(), limits(rule(is_shadow=True))
    it = Client(buckets, its)

    assert all(it.passes(0.0) for _ in range(6))
    quota = buckets.take(its, RequestHead(b"GET", b"app", b"/", b"", []), Peer(None, "10.0.0.1", 1), 0.0)

    assert quota is not None
    assert [rule.name for rule in quota.shadowed] == ["rule"]
    assert quota.limit == 0


@pytest.mark.parametrize("is_distinct", [False, True])
def test_a_bucket_keeps_its_share_when_the_limit_changes(is_distinct: bool) -> None:
    buckets = Buckets()
    conditions, labels = (EACH_USER, ("x-user",)) if is_distinct else ((), ())
    before = limits(rule(Limit(10, 10.0, 1.0), conditions=conditions, labels=labels))
    after = limits(rule(Limit(100, 100.0, 10.0), conditions=conditions, labels=labels))
    for _ in range(4):
        Client(buckets, before).passes(0.0)

    buckets.keep(["rule"])

    assert Client(buckets, after).told(0.0) == (100, 59, 0)


def test_the_bucket_of_a_rule_that_is_gone_is_forgotten() -> None:
    buckets = Buckets()
    it = Client(buckets, limits(rule()))
    for _ in range(5):
        it.passes(0.0)

    buckets.keep([])

    assert it.passes(0.0)


def test_headers_are_for_clients_of_limits_that_ask_for_them() -> None:
    head, peer = RequestHead(b"GET", b"app", b"/", b"", []), Peer(None, "10.0.0.1", 1)
    marked = []
    for has_headers in (True, False):
        headers: list[tuple[bytes, bytes]] = []
        quota = Buckets().take(limits(rule(), has_headers=has_headers), head, peer, 0.0)
        assert quota is not None
        quota.mark(headers)
        marked.append(headers)

    assert marked[0] == [(b"x-ratelimit-limit", b"5"), (b"x-ratelimit-remaining", b"4"), (b"x-ratelimit-reset", b"0")]
    assert marked[1] == []


def test_a_full_table_forgets_in_the_clients_favour() -> None:
    its = limits(rule(Limit(1, 1.0, 1 / 60), conditions=EACH_USER, labels=("x-user",)))
    buckets = Buckets(max_buckets=64)
    crowd = [Client(buckets, its, b"user-%d" % number) for number in range(1000)]

    assert all(it.passes(float(number) / 1000) for number, it in enumerate(crowd))
    assert sum(not it.passes(1.0) for it in crowd) <= 64
    assert not crowd[-1].passes(1.0)


STEPS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([b"a", b"b"])), max_size=60)


@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 8), STEPS)
def test_a_bucket_does_what_counting_tokens_would(
    capacity: int, per_eighth: int, eighths: int, steps: list[tuple[int, bytes]]
) -> None:
    rate = Fraction(per_eighth, 8 * eighths)
    buckets, its = (
        Buckets(),
        limits(rule(Limit(1, float(capacity), float(rate)), conditions=EACH_USER, labels=("x-user",))),
    )
    levels = {b"a": Fraction(capacity), b"b": Fraction(capacity)}
    now = 1000
    for wait, user in steps:
        now += wait
        levels = {name: min(Fraction(capacity), level + wait * rate) for name, level in levels.items()}
        if abs(levels[user] - 1) < Fraction(1, 10**6):
            levels[user] = Fraction(1)
            continue  # either is right: a float can't tell
        is_full = levels[user] >= 1
        levels[user] -= is_full

        assert Client(buckets, its, user).passes(float(now)) is is_full
