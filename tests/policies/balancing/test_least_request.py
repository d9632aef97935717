from collections import Counter
from dataclasses import dataclass

from policies.balancing.least_request import LeastRequest


@dataclass
class Candidate:
    active: int = 0
    weight: int = 1


ROLLS = [number / 60 for number in range(60)]


def picks(candidates: list[Candidate]) -> Counter[int]:
    """How often each candidate is picked over a grid of all rolls."""
    balancer = LeastRequest(candidates)
    picked = (balancer.pick(one, two) for one in ROLLS for two in ROLLS)
    return Counter(next(i for i, candidate in enumerate(candidates) if candidate is it) for it in picked)


def test_a_single_candidate_is_picked() -> None:
    only = Candidate(active=9)

    assert LeastRequest([only]).pick(0.99, 0.99) is only


def test_of_two_candidates_the_one_with_less_to_do_always_wins() -> None:
    assert picks([Candidate(active=3), Candidate(active=2)]) == {1: 3600}


def test_the_busiest_of_many_is_never_picked_because_two_different_ones_are_compared() -> None:
    shares = picks([Candidate(active=1), Candidate(active=5), Candidate(active=1)])

    assert shares[1] == 0


def test_idle_candidates_share_evenly() -> None:
    assert picks([Candidate(), Candidate(), Candidate()]) == {0: 1200, 1: 1200, 2: 1200}


def test_unequal_weights_are_honoured_among_equally_busy_ones() -> None:
    shares = picks([Candidate(weight=3), Candidate(weight=1)])

    assert shares == {0: 2700, 1: 900}


def test_what_is_under_way_lowers_the_share_of_a_heavy_candidate() -> None:
    shares = picks([Candidate(weight=3, active=2), Candidate(weight=1, active=0)])

    assert shares == {0: 2025, 1: 1575}  # the heavy one only when both draws fall on it


def test_who_does_as_much_as_its_weight_says_gets_what_its_weight_says() -> None:
    shares = picks([Candidate(weight=3, active=6), Candidate(weight=1, active=2)])

    assert shares == {0: 2700, 1: 900}


def test_an_endpoint_of_weight_zero_is_left_alone_while_others_weigh_something() -> None:
    assert picks([Candidate(weight=0), Candidate(weight=2)]) == {1: 3600}
