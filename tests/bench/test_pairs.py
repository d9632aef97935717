import pytest

from bench.pairs import Summary, summarize, turn


def pair(ours: float, envoy: float) -> dict[str, dict[str, float]]:
    return {"ours": {"CPU": ours}, "peer": {"CPU": envoy}}


def test_ratios_are_taken_inside_each_pair_and_then_their_median() -> None:
    pairs = [pair(10, 10), pair(30, 20), pair(400, 100)]  # the machine got slower and slower

    assert summarize(pairs) == {"CPU": Summary(ours=30, peer=20, ratio=1.5, least=1.0, most=4.0)}


def test_a_figure_of_which_the_peer_has_nothing_has_no_ratio() -> None:
    assert summarize([pair(3, 0)])["CPU"] == Summary(ours=3, peer=0, ratio=None, least=None, most=None)


def test_a_pair_where_the_peer_has_nothing_is_left_out_of_the_ratios() -> None:
    assert summarize([pair(3, 0), pair(4, 2)])["CPU"].ratio == pytest.approx(2)


def test_the_systems_take_turns_in_going_first() -> None:
    assert [turn(number)[0] for number in range(1, 5)] == ["ours", "peer", "ours", "peer"]
