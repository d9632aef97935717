"""Checks an installed wheel: both programs run, and every hot module is the compiled one.

Run by the Python that it is installed for: `.ci/wheels.py` and cibuildwheel do.
"""

import importlib
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    installed = Path(sysconfig.get_path("purelib"), "pywaypoint")
    if not installed.exists():
        installed = Path(sysconfig.get_path("platlib"), "pywaypoint")
    sys.path[:0] = [str(installed)]
    sys.path.append(str(ROOT))  # for `twin`, which is not installed; everything else is found before
    hot = importlib.import_module("twin").HOT
    plain = [path for path in hot if not _file(path).endswith(".so")]
    foreign = [path for path in hot if not _file(path).startswith(str(installed))]
    for program in ("waypoint", "ztunnel"):
        subprocess.run([Path(sysconfig.get_path("scripts"), program), "--version"], check=True)
    if plain or foreign:
        print(f"not compiled: {plain}; not of the wheel: {foreign}", file=sys.stderr)
        return 1
    print(f"{len(hot)} compiled modules of {installed} are used by Python {sys.version.split()[0]}")
    return 0


def _file(path: str) -> str:
    return importlib.import_module(path.removesuffix(".py").replace("/", ".")).__file__ or ""


if __name__ == "__main__":
    sys.exit(main())
