from l4.telemetry.held import is_held
from l4.telemetry.metrics import Histogram, Value


def test_an_object_is_held_while_somebody_else_refers_to_it() -> None:
    kept: dict[str, object] = {"value": Value(), "histogram": Histogram()}
    for key in kept:
        assert not is_held(kept, key)
        holder = [kept[key]]
        assert is_held(kept, key)
        assert holder.pop() is kept[key]
        assert not is_held(kept, key)
