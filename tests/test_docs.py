"""Objects shown in docs/ are such as the waypoint takes."""

import re
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
