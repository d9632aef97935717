"""Which version of the hot modules is under test: a run that is meant for the compiled twin must really have it."""

import ast
import importlib
import os
from pathlib import Path

import pytest

BUILD = ast.parse((Path(__file__).parents[1] / "hatch_build.py").read_text())
(HOT,) = (
    ast.literal_eval(it.value)
    for it in BUILD.body
    if isinstance(it, ast.Assign) and ast.unparse(it.targets[0]) == "HOT"
)


@pytest.mark.parametrize("path", HOT)
def test_the_version_that_was_asked_for_is_loaded(path: str) -> None:
    file = importlib.import_module(path.removesuffix(".py").replace("/", ".")).__file__

    assert file is not None
    assert file.endswith(".so") == (os.environ.get("EXPECT_TWIN") == "1")
