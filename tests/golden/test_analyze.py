"""`waypoint analyze messy` prints what is written beside it, in each of its forms.

After a change that is meant: `pytest tests/golden --update-golden`, and read the diff.
"""

from pathlib import Path

import pytest
from click.testing import CliRunner

from waypoint.cli import cli

HERE = Path(__file__).parent / "analyze"


@pytest.mark.parametrize("form", ["log", "json", "yaml"])
def test_a_messy_folder_is_told_what_is_written_beside_it(
    form: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE)
    expected = HERE / f"messy.{form}"

    answer = CliRunner().invoke(cli, ["analyze", "messy", "--output", form])

    actual = answer.stdout + "".join(f"# {line}\n" for line in answer.stderr.splitlines() if form == "log")
    if request.config.getoption("--update-golden", default=False):
        expected.write_text(actual)
    assert answer.exit_code == 1
    assert actual == expected.read_text()
