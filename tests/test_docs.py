"""Objects shown in docs/ are such as the waypoint takes, and pages that are written from the code are up to date."""

import re
import subprocess
import sys
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


def test_the_reference_of_settings_is_what_make_docs_writes() -> None:
    script = "import runpy; print(runpy.run_path('.ci/settings_reference.py')['reference'](), end='')"

    written = subprocess.run(
        [sys.executable, "-c", script], cwd=DOCS.parent, capture_output=True, text=True, check=True
    )

    assert (DOCS / "settings.md").read_text() == written.stdout
