from l4.telemetry.metrics import Value
from l4.telemetry.tally import Tally


def test_what_has_been_added_is_not_added_again_after_a_change_of_counter() -> None:
    first, second = Value(), Value()
    tally = Tally(first)
    tally.reach(5)
    tally.reach(5)
    tally.counter = second
    tally.reach(7)

    assert (first.value, second.value) == (5, 2)
