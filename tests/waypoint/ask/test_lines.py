from pathlib import Path

from l4.config.documents import FileOrigin, Problem
from waypoint.ask.lines import Lines

SERVICE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  ports:\n  - port: 1\n  - port: 2\n"


def problem(file: str, line: int, field: str = "spec.ports[1].port") -> Problem:
    return Problem(FileOrigin(file, line), "Service default/a", field, "is wrong")


def test_each_problem_gets_the_line_of_its_field(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{SERVICE}---\n{SERVICE}")

    found = Lines({}).located([problem(str(file), 1), problem(str(file), 10), problem(str(file), 10, "spec")])

    assert [it.origin.line for it in found] == [8, 17, 14]


def test_text_that_is_in_no_file_is_looked_into_by_its_name() -> None:
    (found,) = Lines({"stdin": SERVICE.encode()}).located([problem("stdin", 1)])

    assert str(found.origin) == "stdin:8"


def test_what_has_no_line_or_can_not_be_read_stays_where_it_is(tmp_path: Path) -> None:
    problems = [problem(str(tmp_path / "gone.yaml"), 3), problem("a.yaml", 0), problem("a.yaml", 2, field="")]

    assert Lines({"a.yaml": SERVICE.encode()}).located(problems) == problems
