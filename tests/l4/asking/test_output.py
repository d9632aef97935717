import json

import pytest
import yaml

from l4.asking.output import age, size, table, written

ROWS = [{"name": "reviews", "count": 12}, {"name": "a", "count": None}]


def test_columns_are_as_wide_as_their_content() -> None:
    assert table(ROWS, [("NAME", "name"), ("TWICE", lambda it: (it["count"] or 0) * 2)]) == (
        "NAME     TWICE\nreviews  24\na        0"
    )


def test_what_is_missing_is_a_dash_and_nothing_at_all_is_said() -> None:
    assert (
        table(ROWS[1:], [("NAME", "name"), ("COUNT", "count"), ("OTHER", "other")]).splitlines()[1] == "a     -      -"
    )
    assert table([], [("NAME", "name")]) == "none"


def test_text_of_others_cannot_control_the_terminal() -> None:
    assert table([{"name": "a\x1b[2Jb"}], [("NAME", "name")]).splitlines()[1] == "a\\x1b[2Jb"


def test_json_and_yaml_have_the_same_content() -> None:
    assert json.loads(written(ROWS, "json")) == yaml.safe_load(written(ROWS, "yaml")) == ROWS


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5s"), (65, "1m5s"), (3 * 3600 + 12 * 60, "3h12m"), (200_000, "2d7h")]
)
def test_an_age_has_two_units(seconds: float, said: str) -> None:
    assert age(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"), [(None, "-"), (0, "0 B"), (1536, "1.5 KiB"), (300 << 20, "300 MiB"), (5 << 40, "5120 GiB")]
)
def test_a_size_has_a_unit(count: int | None, said: str) -> None:
    assert size(count) == said
