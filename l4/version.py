"""The version with the commit it was built from: `0.1.0+g1a2b3c4d5e6f`, plus `.dirty` if files differed.

At the tag of its name it is a release: `0.1.0`. The build runs this file through `hatch_build.py` and writes the
version into the package metadata. A checkout asks git each time, because its commit changes.
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
    """Return the running version: from git in a checkout, else as written by the build."""
    return of_folder(_ROOT) if (_ROOT / ".git").exists() else installed()


def installed() -> str:
    """Return the version written by the build, without starting a program. The plain release if nothing was built."""
    try:
        return metadata_version("pywaypoint")
    except PackageNotFoundError:
        return RELEASE


def of_folder(root: Path) -> str:
    """Return the version of the sources in a folder. PYWAYPOINT_COMMIT gives the commit where git is not available."""
    commit = os.environ.get("PYWAYPOINT_COMMIT") or _described(root)
    if commit in ("", f"v{RELEASE}"):
        return RELEASE
    return f"{RELEASE}+g{re.sub('[^0-9a-z]+', '.', commit.rpartition('-g')[2].lower()).strip('.')}"


def _described(root: Path) -> str:
    if not (root / ".git").exists():  # else git would find an enclosing project
        return ""
    command = ("git", "describe", "--tags", "--match", f"v{RELEASE}", "--always", "--abbrev=12", "--dirty=.dirty")
    try:
        answer = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
