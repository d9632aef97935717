"""Manifests in guides and examples load without problems and unknown fields."""

from pathlib import Path

import pytest

from l4.config import manifest
from l4.config.resources import Decoder
from waypoint.config.kinds import KINDS

HERE = Path(__file__)
GATEWAY_API = sorted((HERE.parent / "samples").glob("*.yaml"))
# The kind of examples/filter is none of ours: tests/examples/test_filter.py adds it.
BOOKINFO = HERE.parents[3] / "examples" / "bookinfo"
EXAMPLES = [it for it in sorted(BOOKINFO.rglob("*.yaml")) if "apiVersion:" in it.read_text()]


@pytest.mark.parametrize("path", [*GATEWAY_API, *EXAMPLES], ids=lambda path: path.name)
def test_samples_load_without_a_problem(path: Path) -> None:
    documents, problems = manifest.parse(str(path), path.read_bytes())

    assert documents
    assert problems == []
    assert Decoder(KINDS).decode(documents).problems == ()


@pytest.mark.parametrize("path", GATEWAY_API, ids=lambda path: path.name)
def test_no_kind_of_the_gateway_api_is_passed_over(path: Path) -> None:
    documents, _ = manifest.parse(str(path), path.read_bytes())

    assert Decoder(KINDS).decode(documents).ignored == {}
