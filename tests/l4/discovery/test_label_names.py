import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from l4.discovery import label_names

ROOT = Path(__file__).parents[3]
is_name = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}/(?!v[0-9])[A-Za-z][A-Za-z0-9._-]*").fullmatch


def literals(tree: ast.AST) -> Iterator[str]:
    """The texts that the code works with: those that explain it stand by themselves."""
    explaining = {id(it.value) for it in ast.walk(tree) if isinstance(it, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in explaining:
            yield node.value


def spelled() -> dict[str, list[str]]:
    places = defaultdict(list)
    for folder in ("l4", "policies", "waypoint"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text in filter(is_name, literals(ast.parse(path.read_text()))):
                places[text].append(str(path.relative_to(ROOT)))
    return places


def test_the_name_of_a_label_or_annotation_is_spelled_in_one_place() -> None:
    places = spelled()

    assert {name: its for name, its in places.items() if len(its) > 1} == {}
    assert places[label_names.GATEWAY_NAME] == ["l4/discovery/label_names.py"]
