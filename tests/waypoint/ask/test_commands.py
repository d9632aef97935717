import json
import re
from pathlib import Path

import pytest
import yaml
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from l4.config.settings import Settings
from tests.kit.lints import MESH, route
from waypoint.ask.codes import CODES
from waypoint.ask.load import load
from waypoint.cli import cli
from waypoint.config.dump import dump

BOOKINFO = Path(__file__).parents[3] / "examples" / "bookinfo"
FINE = route("{backendRefs: [{name: reviews, port: 80}]}")
WITH_INFO = route("{backendRefs: [{name: reviews, port: 80}, {name: reviews, port: 80, weight: 0}]}")
WITH_WARNING = route("{backendRefs: [{name: reviews, port: 80}]}, {backendRefs: [{name: reviews, port: 80}]}")
WITH_ERROR = route("{backendRefs: [{name: nobody, port: 80}]}")


def waypoint(*args: str | Path, stdin: str = "", **more: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin, **more)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mesh.yaml").write_text(MESH)
    (tmp_path / "route.yaml").write_text(FINE)
    return tmp_path


# -- analyze -------------------------------------------------------------------------------------------------------


def test_without_problems_nothing_is_printed_and_the_summary_says_so(folder: Path) -> None:
    answer = waypoint("analyze", folder)

    assert (answer.exit_code, answer.stdout) == (0, "")
    assert "✔ no problems in 5 objects of 2 files" in answer.stderr
    assert "waypoint compile … --gateway default/waypoint" in answer.stderr


@pytest.mark.parametrize(
    ("manifest", "thresholds"),
    [
        (WITH_INFO, {"Error": 0, "Warning": 0, "Info": 1}),
        (WITH_WARNING, {"Error": 0, "Warning": 1, "Info": 1}),
        (WITH_ERROR, {"Error": 1, "Warning": 1, "info": 1}),
    ],
)
def test_the_exit_status_goes_by_the_failure_threshold(folder: Path, manifest: str, thresholds: dict[str, int]) -> None:
    (folder / "route.yaml").write_text(manifest)

    statuses = {it: waypoint("analyze", folder, "--failure-threshold", it).exit_code for it in thresholds}

    assert statuses == thresholds


def test_the_output_threshold_hides_lines_and_leaves_the_exit_status(folder: Path) -> None:
    (folder / "route.yaml").write_text(WITH_INFO)

    answer = waypoint("analyze", folder, "--output-threshold", "Warning", "--failure-threshold", "Info")

    assert (answer.exit_code, answer.stdout) == (1, "")
    assert "1 info in" in answer.stderr


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ((), "use either PATH (- is standard input) for files or --kubernetes for an API server"),
        (("/nowhere",), "'/nowhere' does not exist"),
        ((BOOKINFO, "--suppress", "PWP0103"), "is not of the form CODE=KIND NAME.NAMESPACE"),
        ((BOOKINFO, "--failure-threshold", "Grave"), "'Grave' is not one of"),
        ((BOOKINFO, "--gateway", "default/nobody"), "there is no Gateway default/nobody"),
    ],
)
def test_wrong_usage_is_exit_status_2(args: tuple[str | Path, ...], sentence: str) -> None:
    answer = waypoint("analyze", *args)

    assert answer.exit_code == 2
    assert sentence in " ".join(answer.stderr.split())


def test_standard_input_is_a_path(folder: Path) -> None:
    answer = waypoint("analyze", folder, "-", stdin=WITH_ERROR)

    assert answer.exit_code == 1
    assert answer.stdout.startswith(
        "Error [PWP0103] (HTTPRoute default/reviews spec.rules[0].backendRefs[0].name) stdin:"
    )


def test_json_and_yaml_say_the_same_and_nothing_else_stands_beside_them(folder: Path) -> None:
    (folder / "route.yaml").write_text(WITH_ERROR)

    of_json, of_yaml = (waypoint("analyze", folder, "-o", form) for form in ("json", "yaml"))

    assert json.loads(of_json.stdout) == yaml.safe_load(of_yaml.stdout)
    assert json.loads(of_json.stdout)[0]["code"] == "PWP0103"


def test_levels_have_colours_on_a_terminal_only(folder: Path) -> None:
    (folder / "route.yaml").write_text(WITH_ERROR)

    piped, terminal = waypoint("analyze", folder), waypoint("analyze", folder, color=True)
    refused = waypoint("analyze", folder, color=True, env={"NO_COLOR": "1"})

    assert piped.stdout.startswith("Error [")
    assert terminal.stdout.startswith("\x1b[31m\x1b[1mError\x1b[0m [")
    assert refused.stdout.startswith("Error [")


def test_all_codes_are_listed() -> None:
    lines = waypoint("analyze", "--list-codes").stdout.splitlines()

    assert lines[0].split() == ["CODE", "ISTIO", "LEVEL", "NAME", "MEANING"]
    assert [line.split()[0] for line in lines[1:]] == list(CODES)


def test_codes_are_completed() -> None:
    shell = ShellComplete(cli, {}, "waypoint", "_WAYPOINT_COMPLETE")

    found = shell.get_completions(["analyze", "--suppress"], "PWP0103")

    assert [(it.value, it.help) for it in found] == [("PWP0103=", "BackendNotFound")]


@pytest.mark.parametrize("routes", ["routes.yaml", *(f"routes/{it.name}" for it in (BOOKINFO / "routes").iterdir())])
def test_bookinfo_is_clean(routes: str) -> None:
    answer = waypoint("analyze", BOOKINFO / "platform", BOOKINFO / "gateway.yaml", BOOKINFO / routes)

    assert (answer.exit_code, answer.stdout) == (0, "")


# -- compile -------------------------------------------------------------------------------------------------------


def test_what_is_compiled_is_what_a_running_waypoint_dumps(folder: Path) -> None:
    snapshot = load([folder], ("default", "waypoint"), Settings()).snapshots["default", "waypoint"]

    of_json = waypoint("compile", folder, "--gateway", "default/waypoint", "-o", "json")
    of_yaml = waypoint("compile", folder)

    assert json.loads(of_json.stdout) == yaml.safe_load(of_yaml.stdout) == json.loads(json.dumps(dump(snapshot)))


def test_the_table_of_what_is_compiled_has_its_routes(folder: Path) -> None:
    answer = waypoint("compile", folder, "-o", "table")

    heading, *rows = answer.stdout.splitlines()
    assert heading.split() == ["SERVICE", "PORT", "PROTOCOL", "FOR", "ROUTE", "MATCH", "BACKENDS", "ACTIONS"]
    assert rows


def test_the_table_of_the_status_has_a_row_for_each_condition(folder: Path) -> None:
    (folder / "route.yaml").write_text(WITH_ERROR)

    answer = waypoint("compile", folder, "-o", "table", "--status")

    heading, *rows = [re.split("  +", line, maxsplit=5) for line in answer.stdout.splitlines()]
    found = {(it[0], it[1], it[2]): it[3:] for it in rows}
    assert heading == ["OBJECT", "FOR", "CONDITION", "STATUS", "REASON", "MESSAGE"]
    assert found["Gateway default/waypoint", "-", "Accepted"] == ["True", "Accepted", "the Gateway is served"]
    assert ("Gateway default/waypoint", "listener mesh", "ResolvedRefs") in found
    assert found["HTTPRoute default/reviews", "Service reviews", "ResolvedRefs"][:2] == ["False", "BackendNotFound"]


def test_istioctls_name_of_the_table_of_findings_is_taken(folder: Path) -> None:
    (folder / "route.yaml").write_text(WITH_ERROR)

    assert waypoint("analyze", folder, "-o", "log").stdout == waypoint("analyze", folder).stdout != ""


@pytest.mark.parametrize("is_stdin", [False, True])
def test_a_problem_has_the_same_line_as_in_an_analysis(folder: Path, is_stdin: bool) -> None:
    broken = WITH_ERROR.replace("rules: [", "rules:\n  [\n    ").replace("name: nobody", "\n      name: nobody")
    if not is_stdin:
        (folder / "route.yaml").write_text(broken)
    paths: list[str | Path] = [folder, "-"] if is_stdin else [folder]

    compiled = waypoint("compile", *paths, "-o", "json", stdin=broken)
    analyzed = waypoint("analyze", *paths, "-o", "json", stdin=broken)

    (line,) = json.loads(compiled.stdout)["problems"]
    (problem,) = [it for it in json.loads(analyzed.stdout) if it["code"] == "PWP0103"]
    assert line.startswith(f"{problem['reference']}: ")
    assert not problem["reference"].endswith(":1")


def test_the_status_of_routes_and_gateway_can_be_had_alone(folder: Path) -> None:
    answer = waypoint("compile", folder, "--status")

    status = yaml.safe_load(answer.stdout)
    assert list(status) == ["Gateway default/waypoint", "HTTPRoute default/reviews"]
    accepted = status["HTTPRoute default/reviews"]["parents"][0]["conditions"][0]
    assert (accepted["type"], accepted["status"]) == ("Accepted", "True")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--gateway", "default/nobody"), "there is no Gateway default/nobody"),
        (("--gateway", "waypoint"), "'waypoint' is not of the form NAMESPACE/NAME"),
    ],
)
def test_a_gateway_that_is_not_there_is_wrong_usage(folder: Path, args: tuple[str, ...], sentence: str) -> None:
    answer = waypoint("compile", folder, *args)

    assert answer.exit_code == 2
    assert sentence in answer.stderr


def test_where_no_waypoint_is_in_use_one_must_be_named(tmp_path: Path) -> None:
    answer = waypoint("compile", tmp_path)

    assert answer.exit_code == 2
    assert "in use are: none" in answer.stderr
