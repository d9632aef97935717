"""What cibuildwheel is told fits what the package says, and the wheel's check finds a wheel without the twin."""

import subprocess
import sys
import tomllib
from pathlib import Path

from twin import HOT

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CIBUILDWHEEL = PYPROJECT["tool"]["cibuildwheel"]


def test_a_wheel_is_built_for_each_python_that_the_metadata_names() -> None:
    prefix = "Programming Language :: Python :: 3."
    named = {it.removeprefix(prefix) for it in PYPROJECT["project"]["classifiers"] if it.startswith(prefix)}

    assert CIBUILDWHEEL["build"] == [f"cp3{it}-*" for it in sorted(named, key=int)]


def test_the_build_asks_for_the_twin_and_its_test_exists() -> None:
    script = CIBUILDWHEEL["test-command"].removeprefix("python {project}/")

    assert CIBUILDWHEEL["environment"] == {"PYWAYPOINT_TWIN": "1"}
    assert (ROOT / script).exists()


def test_the_check_refuses_an_installation_without_the_twin() -> None:
    """The tests' own Python has a checkout installed, and no wheel."""
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "wheel_check.py"], capture_output=True, text=True, timeout=50, cwd="/"
    )

    assert done.returncode == 1
    assert f"not compiled: {list(HOT)};" in done.stderr


def test_a_python_that_is_not_here_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "wheels.py", "3.2"], capture_output=True, text=True, timeout=50
    )

    assert (done.returncode, done.stderr) == (1, "no Python 3.2 is found on PATH or in pyenv\n")
