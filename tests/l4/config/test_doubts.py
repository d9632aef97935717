from l4.config.documents import FileOrigin, Problem
from l4.config.doubts import EVERYWHERE, Doubt, Understanding, concern


def problem(number: int = 0) -> Problem:
    return Problem(FileOrigin("p.yaml", number), "p.yaml", "", "cannot be read")


def test_until_everything_was_understood_once_whoever_a_missing_policy_can_be_for_is_denied() -> None:
    understanding = Understanding()

    first = understanding.take([Doubt(problem(), False, EVERYWHERE), Doubt(problem(), False, "books")])
    second = understanding.take([Doubt(problem(), False, "books"), Doubt(problem(), True, EVERYWHERE)])
    is_complete_too_early = understanding.is_complete
    third = understanding.take([Doubt(problem(), True, EVERYWHERE)])

    assert first == {EVERYWHERE, "books"}
    assert second == {"books"}
    assert not is_complete_too_early
    assert third == frozenset()
    assert understanding.is_complete


def test_once_everything_was_understood_a_new_doubt_denies_nobody_but_for_a_policy() -> None:
    understanding = Understanding()
    understanding.take([])

    assert understanding.take([Doubt(problem(), False, EVERYWHERE)]) == frozenset()
    assert understanding.take([Doubt(problem(), False, "books", is_policy=True)]) == {"books"}


def test_a_doubt_where_no_policy_can_be_missing_denies_nobody_and_is_not_understood() -> None:
    understanding = Understanding()

    assert understanding.take([Doubt(problem(), False, None)]) == frozenset()
    assert not understanding.is_complete


def test_readiness_is_told_of_a_few_and_of_how_many_more() -> None:
    doubts = [Doubt(problem(number + 1), True, None) for number in range(7)]

    assert concern([]) == ""
    assert concern(doubts[:1]) == "p.yaml:1: p.yaml: cannot be read [PWP0001]"
    assert concern(doubts).splitlines()[-1] == "and 2 more that could not be read; see the log"
