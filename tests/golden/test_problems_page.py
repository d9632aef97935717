"""docs/problems.md is made of the table of codes: `pytest tests/golden --update-golden` writes it."""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import l4
import waypoint
from l4.config.codes import Code
from waypoint.ask.codes import CODES

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"
BEGINNING = """\
# What can be wrong with a configuration

`waypoint analyze PATH…` reports these problems of manifests before you deploy them. A running waypoint logs the
problems that it finds. The meaning of a code never changes. The last column names the message of `istioctl analyze`
with the same meaning, if there is one.

- **Error**: the waypoint does not do something that the configuration asks for.
- **Warning**: the waypoint does what the configuration says, but you probably meant something else.
- **Info**: good to know.

With `--failure-threshold` you choose the level from which the exit status is 1 (default: Error). With
`--output-threshold` you choose the level from which a problem is printed.

You can suppress a problem that is intended, by its code or its IST code. Do it on the command line

    waypoint analyze manifests/ --suppress 'PWP0302=HTTPRoute reviews.*'

or in the object:

    metadata:
      annotations:
        galley.istio.io/analyze-suppress: PWP0302,IST0130

"""
CHAPTERS = {
    "PWP00": "Documents",
    "PWP01": "References and rules",
    "PWP02": "Waypoints and their services",
    "PWP03": "Valid, but probably not meant",
    "PWP04": "The mesh on one machine",
    "PWP05": "Who is let in",
}


def page() -> str:
    text = BEGINNING
    for prefix, title in CHAPTERS.items():
        text += f"## {title}\n\n| code | name | level | meaning | istioctl |\n|---|---|---|---|---|\n"
        for code in (it for it in CODES if it.startswith(prefix)):
            text += f"| {code} | {code.label} | {code.level} | {code.meaning} | {code.ist} |\n"
        text += "\n"
    return text.rstrip("\n") + "\n"


def test_the_page_of_problems_is_current(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden", default=False):
        PAGE.write_text(page())

    assert PAGE.read_text() == page()


def declared(package: ModuleType) -> set[Code]:
    """The codes that the modules of a package define."""
    for it in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not it.name.endswith("__main__"):
            importlib.import_module(it.name)
    rooms = (it for it in Code.__subclasses__() if it.__module__.startswith(f"{package.__name__}."))
    return {code for room in rooms for code in room}


def test_every_code_that_is_declared_stands_in_the_table_and_in_a_chapter() -> None:
    assert set(CODES) == declared(l4) | declared(waypoint)
    assert all(code[:5] in CHAPTERS for code in CODES)
    assert len({code.label for code in CODES}) == len(CODES) == len(set(CODES))
