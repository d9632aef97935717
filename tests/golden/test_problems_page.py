"""docs/problems.md is made of the table of codes: `pytest tests/golden --update-golden` writes it."""

from pathlib import Path

import pytest

from l4.config.codes import CODES, Code

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
        for code in sorted(it for it in Code if it.startswith(prefix)):
            entry = CODES[code]
            text += f"| {code} | {entry.name} | {entry.level} | {entry.meaning} | {entry.ist} |\n"
        text += "\n"
    return text.rstrip("\n") + "\n"


def test_the_page_of_problems_is_current(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden", default=False):
        PAGE.write_text(page())

    assert PAGE.read_text() == page()


def test_every_code_stands_in_the_table_and_in_a_chapter() -> None:
    assert set(CODES) == set(Code)
    assert all(code[:5] in CHAPTERS for code in Code)
    assert len({entry.name for entry in CODES.values()}) == len(CODES)
