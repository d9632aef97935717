from hypothesis import given
from hypothesis import strategies as st

from policies.balancing import weighted


def test_each_candidate_has_the_share_of_its_weight() -> None:
    picked = [weighted.pick("abc", (1, 0, 3), hundredth / 100) for hundredth in range(100)]

    assert (picked.count("a"), picked.count("b"), picked.count("c")) == (25, 0, 75)


def test_nobody_is_picked_when_all_weigh_nothing() -> None:
    assert weighted.pick("ab", (0, 0), 0.5) is None
    assert weighted.pick("", (), 0.5) is None


@given(
    weights=st.lists(st.integers(0, 1_000_000), min_size=1, max_size=16),
    roll=st.floats(0, 1, exclude_max=True, allow_nan=False),
)
def test_whoever_is_picked_has_weight_however_the_roll_falls(weights: list[int], roll: float) -> None:
    picked = weighted.pick(range(len(weights)), weights, roll)

    assert (picked is None) == (not any(weights))
    assert picked is None or weights[picked] > 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20).filter(any), st.floats(0, 1, exclude_max=True))
def test_shares_that_are_added_up_once_choose_the_same(weights: list[int], roll: float) -> None:
    assert weighted.Shares(weights).find(roll) == weighted.pick(range(len(weights)), weights, roll)


def test_where_all_weigh_nothing_all_are_alike() -> None:
    shares = weighted.Shares([0, 0])

    assert [shares.find(roll) for roll in (0.0, 0.49, 0.5, 0.99)] == [0, 0, 1, 1]
