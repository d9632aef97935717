import pytest

from policies.chance import Chance
from policies.fault import Abort, Delay, Fault


@pytest.mark.parametrize(
    ("rolls", "seconds", "is_aborted"),
    [([0.29, 0.09], 2.0, True), ([0.29, 0.1], 2.0, False), ([0.3, 0.09], 0.0, True), ([0.3, 0.1], 0.0, False)],
)
def test_delay_and_abort_each_have_a_die_of_their_own(rolls: list[float], seconds: float, is_aborted: bool) -> None:
    abort = Abort(500, 0.1)
    dice = {Chance.DELAY: rolls[0], Chance.ABORT: rolls[1]}

    waits, aborted = Fault(Delay(2.0, 0.3), abort).strike(lambda chance, share: dice[Chance(chance)] < share)

    assert waits == seconds
    assert aborted is (abort if is_aborted else None)


@pytest.mark.parametrize(("chance", "roll", "is_aborted"), [(0.0, 0.0, False), (1.0, 0.999999, True)])
def test_never_is_never_and_always_is_always(chance: float, roll: float, is_aborted: bool) -> None:
    _, aborted = Fault(abort=Abort(500, chance)).strike(lambda _, share: roll < share)

    assert (aborted is not None) is is_aborted
