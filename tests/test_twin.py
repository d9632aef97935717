"""Which version of the hot modules is under test: a run that is meant for the compiled twin must really have it."""

import importlib
import os

import pytest

MODULES = ("l4.http2._engine", "l4.hbone.tunnel", "waypoint.exchange", "waypoint.http.h1", "waypoint.telemetry")


@pytest.mark.parametrize("name", MODULES)
def test_the_version_that_was_asked_for_is_loaded(name: str) -> None:
    file = importlib.import_module(name).__file__

    assert file is not None
    assert file.endswith(".so") == (os.environ.get("EXPECT_TWIN") == "1")
