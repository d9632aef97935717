"""Rules for every module of the product: its size, its layer, and its tests."""

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("tested_elsewhere.txt")
PACKAGES = ("waypoint", "l4", "policies", "twin")
GENERATED = "_pb2.py"


@cache
def modules() -> list[Path]:
    """The modules of the product that have code, below the top of the repository."""
    return [
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if not path.name.endswith(GENERATED) and has_code(path)
    ]


def has_code(path: Path) -> bool:
    statements = ast.parse(path.read_text()).body
    return any(not (isinstance(it, ast.Expr) and isinstance(it.value, ast.Constant)) for it in statements)


def place_of_tests(module: Path) -> Path:
    """`waypoint/x/y.py` is tested by `tests/waypoint/x/test_y.py`, and a package's own code like a module."""
    place = module.parent if module.name == "__init__.py" else module.with_suffix("")
    return Path("tests") / place.parent / f"test_{place.name.strip('_')}.py"


def read_table() -> dict[str, list[str]]:
    """The table: modules, and the tests that cover them."""
    lines = (line.partition("#")[0].split() for line in TABLE.read_text().splitlines())
    return {module.removesuffix(":"): tests for module, *tests in filter(None, lines)}


ELSEWHERE = read_table()


def test_every_module_has_its_test_module_or_says_which_tests_cover_it() -> None:
    alone = [str(it) for it in modules() if not (ROOT / place_of_tests(it)).exists() and str(it) not in ELSEWHERE]

    assert alone == [], f"write the test module of each, or name the tests that cover it in {TABLE.relative_to(ROOT)}"


def test_the_table_names_no_module_that_is_gone_or_has_its_test_module() -> None:
    known = {str(it): it for it in modules()}

    stale = [it for it in ELSEWHERE if it not in known or (ROOT / place_of_tests(known[it])).exists()]

    assert stale == [], f"take these out of {TABLE.relative_to(ROOT)}"


@pytest.mark.parametrize("module", ELSEWHERE)
def test_the_tests_that_the_table_names_exist(module: str) -> None:
    assert ELSEWHERE[module], "no test is named"
    assert [it for it in ELSEWHERE[module] if not (ROOT / "tests" / it).is_file()] == []


def test_the_table_is_sorted() -> None:
    assert list(ELSEWHERE) == sorted(ELSEWHERE)


def test_modules_are_small() -> None:
    lines = {str(it): len((ROOT / it).read_text().splitlines()) for it in modules()}

    assert [(it, number) for it, number in lines.items() if number > 450] == []
    assert sorted(lines.values())[len(lines) * 9 // 10] <= 300


@pytest.mark.parametrize("package", ["waypoint", "l4", "policies"])
def test_a_module_in_no_layer_breaks_a_contract(package: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

    assert [
        it["name"]
        for it in contracts
        if it["type"] == "layers" and it.get("exhaustive") and package in it["containers"]
        if not it.get("exhaustive_ignores")
    ]
