"""Where the laptop mesh of this user records its proxies, so that commands find them by themselves.

There are two files in a user folder: `mesh.lock`, which the running mesh locks, and `proxies.json`, which names its
proxies. A lock ends with its process, so a mesh that crashed never counts as running, whatever files it left.
"""

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

LOCK = "mesh.lock"
_PROXIES = "proxies.json"


class Proxy(msgspec.Struct, frozen=True):
    """A proxy of the running mesh. `name` is `ztunnel`, or the waypoint's `NAMESPACE/GATEWAY`. `resources` are the
    files and folders that it follows."""

    program: str
    name: str
    admin: str
    log: str
    access_log: str
    resources: tuple[str, ...] = ()


def folder(environment: Mapping[str, str]) -> Path:
    """Return the folder in XDG_RUNTIME_DIR, which a login session sets, or in the user's cache."""
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "pywaypoint"
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pywaypoint"


def is_running(place: Path) -> bool:
    """Whether a mesh runs now."""
    try:
        with open_lock(place) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def open_lock(place: Path, *, creates: bool = False) -> IO[bytes]:
    flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if creates else 0)
    return open(os.open(place / LOCK, flags, 0o600), "r+b", buffering=0)


def write(place: Path, name: str, content: object) -> None:
    """Write a file of the folder atomically, readable for this user only."""
    draft = place / f".{name}"
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(content))
    draft.replace(place / name)


def record(place: Path, proxies: Sequence[Proxy]) -> None:
    write(place, _PROXIES, proxies)


def forget(place: Path) -> None:
    (place / _PROXIES).unlink(missing_ok=True)


def proxies(place: Path) -> list[Proxy]:
    """Return the proxies of the running mesh; none if no mesh runs."""
    if not is_running(place):
        return []
    try:
        return msgspec.json.decode((place / _PROXIES).read_bytes(), type=list[Proxy])
    except (OSError, msgspec.DecodeError):
        return []
