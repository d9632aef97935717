"""Writes `docs/settings.md` from the fields and docstrings of `l4/config/settings.py`: run by `make docs`."""

import ast
import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from l4.config import settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """# Settings

Both programs read these environment variables when they start; each ignores those that it has no use for. A bad value
ends the start with a sentence that names the variable. Times are seconds, or carry a unit, such as `500ms` or `5m`.
Sizes are bytes. Flags have variables, too: `--help` names them.

`make docs` writes this page from `l4/config/settings.py`.
"""
COLUMNS = "| variable | default | meaning |\n|---|---|---|\n"
SECTION = re.compile(r"^    # -- (.+)$")


def reference() -> str:
    source = Path(settings.__file__).read_text()
    lines = source.splitlines()
    defaults = {field.name: field.default for field in dataclasses.fields(settings.Settings)}
    parts = [HEAD]
    for name, line, meaning in _documented(source):
        if section := SECTION.match(lines[line - 2]):
            parts.append(f"\n## {section[1][:1].upper()}{section[1][1:]}\n\n{COLUMNS}")
        variables = "<br>".join(f"`{it}`" for it in settings.variables(name))
        parts.append(f"| {variables} | {_shown(defaults[name])} | {meaning} |\n")
    return "".join(parts)


def _documented(source: str) -> Iterator[tuple[str, int, str]]:
    """Name, line and docstring of each field."""
    (body,) = (it.body for it in ast.parse(source).body if isinstance(it, ast.ClassDef) and it.name == "Settings")
    for statement, after in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
                raise TypeError(f"the setting {statement.target.id} has no docstring")
            yield statement.target.id, statement.lineno, " ".join(str(after.value.value).split())


def _shown(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else ""


if __name__ == "__main__":
    PAGE.write_text(reference())
    print(f"{PAGE} is written")
