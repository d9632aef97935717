from collections.abc import Mapping
from pathlib import Path

from l4.config.codes import DocumentCode, Level
from l4.config.settings import Settings
from tests.kit.lints import MESH, route
from waypoint.ask.analyze import Analysis, analyze
from waypoint.ask.codes import LintCode
from waypoint.ask.load import load
from waypoint.ask.suppress import Suppression
from waypoint.config.codes import ConfigCode

BROKEN = route("{backendRefs: [{name: nobody, port: 80}, {name: reviews, port: 80, weight: 0}]}")
ANNOTATED = BROKEN.replace(
    "{name: reviews}", "{name: reviews, annotations: {galley.istio.io/analyze-suppress: '*'}}", 1
)


def analysis(folder: Path, files: Mapping[str, str], *suppressions: str, stdin: bytes | None = None) -> Analysis:
    for name, text in files.items():
        (folder / name).write_text(text)
    return analyze(load([folder], None, Settings(), stdin), map(Suppression.parse, suppressions), stdin)


def test_problems_of_the_compiler_and_of_the_lints_come_sorted_by_level(tmp_path: Path) -> None:
    found = analysis(tmp_path, {"a.yaml": MESH, "b.yaml": BROKEN})

    assert [it.code for it in found.problems] == [ConfigCode.BACKEND_NOT_FOUND, LintCode.BACKEND_NEVER_COUNTS]
    assert found.counts() == {Level.ERROR: 1, Level.INFO: 1}
    assert (found.objects, found.files, found.suppressed) == (5, 2, 0)


def test_problems_are_told_of_routes_even_where_no_waypoint_is_in_use(tmp_path: Path) -> None:
    found = analysis(tmp_path, {"a.yaml": BROKEN})

    assert [it.code for it in found.problems] == [ConfigCode.PARENT_NOT_FOUND]


def test_what_is_suppressed_is_only_counted(tmp_path: Path) -> None:
    by_flag = analysis(tmp_path, {"a.yaml": MESH, "b.yaml": BROKEN}, "PWP0103=HTTPRoute reviews.*")
    by_annotation = analysis(tmp_path, {"b.yaml": ANNOTATED})

    assert ([it.code for it in by_flag.problems], by_flag.suppressed) == ([LintCode.BACKEND_NEVER_COUNTS], 1)
    assert (by_annotation.problems, by_annotation.suppressed) == ((), 2)


def test_thresholds_compare_levels(tmp_path: Path) -> None:
    found = analysis(tmp_path, {"a.yaml": MESH, "b.yaml": BROKEN}, "PWP0103=*")

    assert not found.reaches(Level.ERROR)
    assert not found.reaches(Level.WARNING)
    assert found.reaches(Level.INFO)


def test_standard_input_lies_over_the_files_and_its_lines_are_told(tmp_path: Path) -> None:
    found = analysis(tmp_path, {"a.yaml": MESH, "b.yaml": route("{}")}, stdin=BROKEN.strip().encode())

    assert [str(it.origin) for it in found.problems] == ["stdin:4", "stdin:4"]


def test_standard_input_that_is_no_yaml_is_a_problem(tmp_path: Path) -> None:
    (found,) = analysis(tmp_path, {"a.yaml": MESH}, stdin=b"a: [").problems

    assert (found.code, found.subject) == (DocumentCode.INVALID, "stdin")
