"""Builds the wheel with the compiled twin for each Python from 3.11 on that is found here, and tries each.

`make wheels` calls it. Arguments choose some, such as 3.12. Each Python builds with what the lock has. The wheel and
what it needs, of the lock too, are installed into a venv that has nothing else. Then `wheel_check.py` runs there.

It is what `[tool.cibuildwheel]` in pyproject.toml does in a manylinux container, which makes the wheel one for every
Linux. The wheels of this script are for the machine's own, in `build/wheels`.
"""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "wheels"
_CHECK = ROOT / ".ci" / "wheel_check.py"


def main() -> int:
    pythons = runpy.run_path(str(ROOT / ".ci" / "pythons.py"))["found"]()
    chosen = sys.argv[1:] or sorted(pythons)
    missing = [it for it in chosen if it not in pythons]
    if missing or not chosen:
        print(f"no Python {', '.join(missing) or 'from 3.11 on'} is found on PATH or in pyenv", file=sys.stderr)
        return 1
    ends = {name: _try(name, pythons[name]) for name in chosen}
    for name, end in ends.items():
        print(f"{name} ({pythons[name]}): {end}")
    return int(any(end.startswith("FAILED") for end in ends.values()))


def _try(name: str, python: Path) -> str:
    try:
        wheel = build(name, python)
        check(name, python, wheel)
    except subprocess.CalledProcessError as error:
        return f"FAILED: {' '.join(map(str, error.cmd))} ended with status {error.returncode}"
    return f"{wheel.name}, which has the twin and runs"


def build(name: str, python: Path) -> Path:
    """Return the wheel."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    venv = _venv(folder / "build-venv", python, "# section: dev")
    command = [venv, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT]
    subprocess.run(command, env=os.environ | {"PYWAYPOINT_TWIN": "1"}, check=True)
    (wheel,) = folder.glob("pywaypoint-*.whl")
    return wheel


def check(name: str, python: Path, wheel: Path) -> None:
    """Install the wheel into a clean venv and look at what runs there."""
    venv = _venv(OUT / name / "venv", python, "# section: build")
    subprocess.run([venv, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    subprocess.run([venv, _CHECK], cwd=OUT / name, check=True)


def _venv(folder: Path, python: Path, end: str) -> Path:
    """Return the Python of a new venv with what the lock has before a section."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    lock = folder / "requirements.lock"
    lock.write_text((ROOT / "requirements.lock").read_text().partition(end)[0])
    made = folder / "bin" / "python"
    command = [made, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", lock]
    subprocess.run(command, check=True)
    return made


if __name__ == "__main__":
    sys.exit(main())
