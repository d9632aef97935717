"""Find pods' network namespaces, by the processes that run in their control groups.

The path of a process's control group names its container, and with most settings of the kubelet its pod too.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from l4.net.network import Network

PROC = Path("/proc")
_CONTAINER = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_UID = re.compile(r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}")


def container_id(stated: str) -> str:
    """Return the ID of a container from its status, which begins with the runtime: `containerd://…`."""
    return stated.rpartition("/")[2]


def find(wanted: Mapping[str, Iterable[str]], proc: Path = PROC) -> dict[str, Network]:
    """Return the namespaces of pods, by UID. `wanted` gives each pod's containers.

    Pods without a running process are missing, and so are those in the network namespace of this process or of the
    machine's first one. Blocks for as long as it takes to look at all processes.
    """
    pods = {container_id(it): uid for uid, containers in wanted.items() for it in containers}
    pods |= {uid: uid for uid in wanted}
    found: dict[str, Network] = {}
    machine = _identity(proc / "1")
    for process in proc.iterdir() if pods else ():
        if not process.name.isdecimal():
            continue
        uid = _pod_of(process, pods)
        if uid is None or uid in found:
            continue
        network = _open(process)
        if network is None:
            continue
        # The process may have ended meanwhile, and another one may have its number.
        if _pod_of(process, pods) != uid or network.is_own or network.key == machine:
            network.close()
            continue
        found[uid] = network
    return found


def _pod_of(process: Path, pods: Mapping[str, str]) -> str | None:
    try:
        text = (process / "cgroup").read_text()
    except OSError:
        return None
    for container in _CONTAINER.findall(text):
        if container in pods:
            return pods[container]
    return next((uid for it in _UID.findall(text) if (uid := it.replace("_", "-")) in pods), None)


def _open(process: Path) -> Network | None:
    try:
        return Network(os.open(process / "ns" / "net", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return None


def _identity(process: Path) -> tuple[int, int] | None:
    try:
        found = (process / "ns" / "net").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
