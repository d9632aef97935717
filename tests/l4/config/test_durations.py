import msgspec
import pytest

from l4.config.durations import Duration, GoDuration, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("1m30s", 90), ("1h1m1s1ms", 3661.001), ("0s", None), ("0h0ms", None)],
)
def test_durations_of_gep_2257_are_among_those_of_go(text: str, seconds: float | None) -> None:
    assert msgspec.convert(text, Duration) == msgspec.convert(text, GoDuration) == text
    assert seconds_of(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5s", 1.5), (".5m", 30), ("3.h", 10800), ("20us", 2e-5), ("20µs", 2e-5), ("7ns", 7e-9)]
)
def test_go_has_fractions_and_smaller_units(text: str, seconds: float) -> None:
    assert seconds_of(msgspec.convert(text, GoDuration)) == pytest.approx(seconds)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, Duration)


@pytest.mark.parametrize("text", ["", "10", "s", "1d", "-1s", "1s ", "1s\n", "1 s", "1e3s", "١s"])
def test_nothing_else_is_a_duration(text: str) -> None:
    for kind in (Duration, GoDuration):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(text, kind)


def test_no_duration_is_none() -> None:
    assert seconds_of(None) is None
    assert seconds_of("0") is None
