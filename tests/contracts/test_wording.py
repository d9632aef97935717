"""The wording of docstrings and messages: plain technical English, without the riddles that this project once had."""

import ast
import re
from functools import cache

import pytest

from tests.contracts.test_modules import ROOT, modules

RIDDLES = {
    r"\bwhom\b": "name the client, the workload or the user",
    r"\bbefell\b": "say what failed",
    r"\blaid (up)?on\b": "say what is applied",
    r"\b(is|are) told of\b": "say what is reported or logged",
    r"\bbecomes of\b": "say what happens, in active voice",
    r"\b(of|none of) ours\b": "say `our own`, with the noun",
    r"\b(is|are) no more\b": "say `removed` or `closed`",
    r"\bmended\b": "say `corrected`",
    r"\bleads? nowhere\b": "say what cannot be resolved",
}


@cache
def texts() -> list[tuple[str, str]]:
    """The place and text of every docstring, message and help text of the product."""
    return [
        (f"{module}:{node.lineno}", " ".join(node.value.split()))
        for module in modules()
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    ]


@pytest.mark.parametrize("riddle", RIDDLES)
def test_no_text_of_the_product_is_a_riddle(riddle: str) -> None:
    found = [f"{place}: {text[:80]}" for place, text in texts() if re.search(riddle, text, re.IGNORECASE)]

    assert found == [], RIDDLES[riddle]


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(it) for it in modules() if ast.get_docstring(ast.parse((ROOT / it).read_text())) is None]

    assert silent == []
