"""Which version this is, and the commit it was built from: `0.1.0+g1a2b3c4d5e6f`, with `.dirty` where files differed.

At the tag of its name it is a release and says no more: `0.1.0`. The build writes it into the package's metadata, for
which `hatch_build.py` runs this file; a checkout asks git each time, because its commit moves on.
"""

import os
import re
import subprocess
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as metadata_version
from pathlib import Path

RELEASE = "0.1.0"

_ROOT = Path(__file__).parents[1]
_GIT_SECONDS = 5


def version() -> str:
    """Of what runs: in a checkout the commit of now, else what the build wrote."""
    return of_folder(_ROOT) if (_ROOT / ".git").exists() else installed()


def installed() -> str:
    """What the build wrote; starts no program. The bare release where nothing was built."""
    try:
        return metadata_version("pywaypoint")
    except PackageNotFoundError:
        return RELEASE


def of_folder(root: Path) -> str:
    """Of the sources in a folder. Where there is no git, such as in an image's build, PYWAYPOINT_COMMIT says it."""
    commit = os.environ.get("PYWAYPOINT_COMMIT") or _described(root)
    if commit in ("", f"v{RELEASE}"):
        return RELEASE
    return f"{RELEASE}+g{re.sub('[^0-9a-z]+', '.', commit.rpartition('-g')[2].lower()).strip('.')}"


def _described(root: Path) -> str:
    if not (root / ".git").exists():  # else git would look for another project's further up
        return ""
    command = ("git", "describe", "--tags", "--match", f"v{RELEASE}", "--always", "--abbrev=12", "--dirty=.dirty")
    try:
        answer = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
