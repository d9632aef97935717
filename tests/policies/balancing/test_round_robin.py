from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.balancing.round_robin import RoundRobin


@dataclass(frozen=True)
class Member:
    name: int
    weight: int = 1


def test_equals_come_in_turn() -> None:
    members = [Member(n) for n in range(3)]
    turns = RoundRobin(members, 0.0)

    picked = [turns.pick().name for _ in range(6)]

    assert picked == [1, 2, 0, 1, 2, 0]


@given(st.lists(st.integers(1, 50), min_size=2, max_size=8), st.floats(0, 0.999))
def test_over_whole_rounds_everybody_has_as_many_turns_as_its_weight(weights: list[int], start: float) -> None:
    members = [Member(n, weight) for n, weight in enumerate(weights)]
    turns = RoundRobin(members, start)

    counts = Counter(turns.pick().name for _ in range(10 * sum(weights)))

    for member in members:
        assert counts[member.name] == pytest.approx(10 * member.weight, abs=1 + len(members))


def test_the_turns_of_a_heavy_one_are_spread() -> None:
    turns = RoundRobin([Member(0, 2), Member(1, 1), Member(2, 1)], 0.0)

    picked = [turns.pick().name for _ in range(40)]

    assert all(set(picked[n : n + 5]) == {0, 1, 2} for n in range(0, 40, 5))
