import pytest

from bench.telemetry import table, with_shares

COUNTED = {"nothing": 1000.0, "text": 1100.0, "text, no traces": 1150.0, "text, all traces": 6150.0}


def test_a_share_of_traces_is_calculated_from_none_and_all_of_them() -> None:
    assert with_shares(COUNTED) == {
        "nothing": 1000.0,
        "text": 1100.0,
        "text, no traces": 1150.0,
        "text, 1% of traces": pytest.approx(1200.0),
    }


def test_the_table_tells_what_each_part_adds() -> None:
    assert table({"plain": with_shares(COUNTED), "twin": dict.fromkeys(with_shares(COUNTED), 100.0)}) == (
        "| instructions per request | plain | twin |\n"
        "|---|--:|--:|\n"
        "| nothing | 1,000 | 100 |\n"
        "| text | +10.0% | +0.0% |\n"
        "| text, no traces | +15.0% | +0.0% |\n"
        "| text, 1% of traces | +20.0% | +0.0% |"
    )
