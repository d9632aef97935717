"""Every test that the threat model names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "docs" / "threat-model.md"


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", MODEL.read_text())

    missing = [f"{path}::{name}" for path, name in named if name not in functions(ROOT / path)]

    assert len(named) > 20
    assert missing == []


def functions(path: Path) -> set[str]:
    if not path.exists():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
