"""Resolves everything that is installed here, all together, and writes `requirements.lock`: `make lock` runs it.

One file, with a hash of every archive, for every Python from 3.11 on and every platform. It has a section for each
reason to be installed, so that who needs less takes the lines above the next section's title; each package stands
in the first section that needs it. No address of a package index is in it: that is each machine's own matter.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
COMPILE = (
    *(sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--universal", "--generate-hashes"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate"),
)
HEAD = """\
# Made by `make lock`, from pyproject.toml. Install with `pip install --require-hashes`, a section and those above it:
# run (the two programs), build (the wheel and its compiled twin), dev (checks and tests), browser, fuzz.
"""


def main() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    sections = {
        "run": project["dependencies"],
        "build": pyproject["build-system"]["requires"] + pyproject["dependency-groups"]["twin"],
        **project["optional-dependencies"],
    }
    python = project["requires-python"].removeprefix(">=")
    everything = _resolved([it for section in sections.values() for it in section], python)
    written = [HEAD]
    locked: set[str] = set()
    for name, requirements in sections.items():
        needed = _resolved(requirements, python, everything).keys() - locked
        locked |= needed
        written.append(f"\n# section: {name}\n\n" + "".join(everything[it] for it in sorted(needed)))
    LOCK.write_text("".join(written))


def _resolved(requirements: list[str], python: str, chosen: dict[str, str] | None = None) -> dict[str, str]:
    """The lines of each package that the requirements need, by its name; in the chosen versions, if there are any."""
    pins = re.findall(r"^[\w.-]+==[^\\\n]*", "".join((chosen or {}).values()), re.MULTILINE)
    constraints = ROOT / "build" / "constraints.txt"
    constraints.parent.mkdir(exist_ok=True)
    constraints.write_text("\n".join(pins))
    command = [*COMPILE, "--python-version", python, "--constraint", str(constraints)]
    asked = "\n".join(requirements)
    answer = subprocess.run(command, input=asked, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    packages: dict[str, str] = {}
    for text, name in re.findall(r"^(([\w.-]+)==.*(?:\n .*)*\n)", answer.stdout, re.MULTILINE):
        packages[name] = packages.get(name, "") + text
    return packages


if __name__ == "__main__":
    main()
