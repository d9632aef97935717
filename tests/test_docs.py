"""Objects shown in docs/ are such as the waypoint takes, and pages that are written from the code are up to date."""

import re
import runpy
from pathlib import Path

import pytest

from l4.config import manifest
from l4.config.resources import Decoder
from waypoint.config.kinds import KINDS

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = [
    pytest.param(text, id=f"{path.stem}-{number}")
    for path in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_is_taken_as_it_stands(text: str) -> None:
    documents, problems = manifest.parse("example.yaml", text.encode())

    decoded = Decoder(KINDS).decode(documents)

    assert (problems, decoded.problems, decoded.ignored) == ([], (), {})


WRITTEN = runpy.run_path(str(DOCS.parent / ".ci" / "reference.py"))["pages"]()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_page_that_comes_from_the_code_is_what_make_docs_writes(name: str) -> None:
    assert (DOCS / name).read_text() == WRITTEN[name]


def test_every_page_is_linked_from_the_readme_or_from_another_page() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in (DOCS.parent / "README.md", *DOCS.glob("*.md"))
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    }

    assert {page.resolve() for page in DOCS.glob("*.md")} <= linked
    assert [path for path in linked if not path.exists()] == []


ARCHITECTURE = (DOCS / "architecture.md").read_text()


def test_the_page_on_the_architecture_names_only_files_that_exist() -> None:
    named = {it for it in re.findall(r"`([^`\s]*)`", ARCHITECTURE) if "/" in it or it.endswith(".py")}

    assert len(named) > 50
    assert sorted(it for it in named if not (DOCS.parent / it).exists()) == []


def test_the_page_on_the_architecture_stays_short() -> None:
    assert len(ARCHITECTURE.splitlines()) <= 150
