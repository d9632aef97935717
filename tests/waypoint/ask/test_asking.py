import json
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from waypoint.cli import cli

GOLDEN = Path(__file__).parents[2] / "golden"
MESH = ("--resources", GOLDEN / "mesh.yaml")


def waypoint(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def test_json_has_the_same_answer_as_the_text() -> None:
    text = waypoint("explain", *MESH, "--to", "reviews:9080")
    values = json.loads(waypoint("explain", *MESH, "--to", "reviews:9080", "-o", "json").stdout)

    assert text.stdout.splitlines()[0] == values["summary"]
    assert values["found"]["waypoint"] == "default/waypoint"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ((*MESH, "-n", "shop", "--to", "reviews:9080"), "use one of --resources"),
        ((*MESH, "--admin", "127.0.0.1:15000", "--to", "reviews:9080"), "use one of --resources"),
        (MESH, "Missing option '--to'"),
        (
            (*MESH, "--to", "reviews"),
            "reviews.default.svc.cluster.local has the ports 9080, 9081; give one as HOST:PORT",
        ),
        ((*MESH, "--to", "reviews:9080", "-H", "nonsense"), "header 'nonsense' is not of the form NAME: VALUE"),
        ((*MESH, "--to", "reviews:9080", "--gateway", "a/b"), "there is no Gateway a/b in these files"),
    ],
)
def test_a_wrong_question_is_a_sentence_and_exit_status_2(args: tuple[str | Path, ...], sentence: str) -> None:
    answer = waypoint("explain", *args)

    assert answer.exit_code == 2
    assert sentence in " ".join(answer.stderr.split())
    assert answer.stdout == ""


def test_a_waypoint_that_cannot_be_asked_is_exit_status_1() -> None:
    answer = waypoint("explain", "--admin", "127.0.0.1:1", "--to", "reviews:9080")

    assert answer.exit_code == 1
    assert "the administration port of 127.0.0.1:1 cannot be reached" in str(answer.output)


def test_a_wrong_setting_is_exit_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH_NORMALIZATION", "SOME")

    answer = waypoint("explain", *MESH, "--to", "reviews:9080")

    assert (answer.exit_code, "PATH_NORMALIZATION is 'SOME'" in answer.stderr) == (2, True)


def test_the_shell_completes_the_gateways_of_the_files_named_before() -> None:
    completion = ShellComplete(cli, {}, "waypoint", "_WAYPOINT_COMPLETE")

    found = completion.get_completions(["explain", *map(str, MESH), "--gateway"], "def")

    assert [it.value for it in found] == ["default/waypoint"]
