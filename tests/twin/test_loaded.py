"""Which version of the hot modules is under test: a run that is meant for the compiled twin must really have it."""

import importlib
import os

import pytest

from twin import HOT


@pytest.mark.parametrize("path", HOT)
def test_the_version_that_was_asked_for_is_loaded(path: str) -> None:
    file = importlib.import_module(path.removesuffix(".py").replace("/", ".")).__file__

    assert file is not None
    assert file.endswith(".so") == (os.environ.get("EXPECT_TWIN") == "1")
