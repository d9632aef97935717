"""What runs in the laptop mesh now: its proxies and programs, whether each is up, and their logs."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l4.asking import laptop
from l4.asking.admin import Admin, CannotAsk
from waypoint.mesh.probes import accepts
from waypoint.mesh.running import NotRunning, RunningProgram, published

_LOOK_SECONDS = 0.2
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Log:
    """A log file. `name` is the proxy or program that writes it."""

    name: str
    path: Path


async def states(place: Path) -> list[dict[str, Any]]:
    """Return a row per proxy and program. Raises NotRunning."""
    pods = published(place)
    proxies = (_proxy(it) for it in laptop.proxies(place))
    programs = (_program(pod.key, pod.identity, it) for pod in pods for it in pod.programs)
    return list(await asyncio.gather(*proxies, *programs))


def logs(place: Path, wanted: Sequence[str], *, has_access: bool) -> list[Log]:
    """Return the log files of these proxies, pods and programs; of all without names. Raises NotRunning."""
    names = list(_named_logs(place, has_access=has_access))
    unknown = [it for it in wanted if not any(it in its for its, _ in names)]
    if unknown:
        known = ", ".join(sorted({its[0] for its, _ in names}))
        raise NotRunning(f"the mesh has no {unknown[0]} that writes a log; it has {known}")
    return [log for its, log in names if not wanted or any(it in its for it in wanted)]


def follow(found: Sequence[Log], tail: int, *, is_followed: bool) -> Iterator[tuple[Log, str]]:
    """Yield the last `tail` lines of each file, and then new lines as they come."""
    places: dict[Log, int] = {}
    for log in found:
        content = log.path.read_bytes() if log.path.exists() else b""
        places[log] = len(content)
        for line in content.decode(errors="replace").splitlines()[-tail:] if tail else []:
            yield log, line
    rests = dict.fromkeys(found, b"")
    while is_followed:
        time.sleep(_LOOK_SECONDS)
        for log in found:
            for new in _new_lines(log, places, rests):
                yield log, new.decode(errors="replace")


def _new_lines(log: Log, places: dict[Log, int], rests: dict[Log, bytes]) -> list[bytes]:
    try:
        size = log.path.stat().st_size
    except OSError:
        return []
    if size < places[log]:  # the program has started anew
        places[log], rests[log] = 0, b""
    if size == places[log]:
        return []
    with log.path.open("rb") as file:
        file.seek(places[log], os.SEEK_SET)
        data = file.read(_CHUNK)
    places[log] += len(data)
    *lines, rests[log] = (rests[log] + data).split(b"\n")
    return lines


def _named_logs(place: Path, *, has_access: bool) -> Iterator[tuple[tuple[str, ...], Log]]:
    """Yield each log file with the names that select it; the first one is its own."""
    for pod in published(place):
        for program in pod.programs:
            names = (program.name, pod.key, *pod.names)
            yield names, Log(program.name, Path(program.log))
    for proxy in laptop.proxies(place):
        names = (proxy.name, proxy.name.rpartition("/")[2], proxy.program)
        path = proxy.access_log if has_access else proxy.log
        if path:
            yield names, Log(proxy.name, Path(path))


async def _proxy(proxy: laptop.Proxy) -> dict[str, Any]:
    admin = Admin(proxy.name, proxy.admin)
    try:
        found: Mapping[str, Any] = await admin.json("/status")
        state = "ready" if found["ready"] else f"not ready: {', '.join(found['pending'])}"
        identity = found.get("identity", "")
    except CannotAsk:
        state, identity = "does not answer", ""
    finally:
        await admin.close()
    return {
        "name": proxy.name,
        "kind": proxy.program,
        "pod": "",
        "address": proxy.admin,
        "state": state,
        "identity": identity,
        "log": proxy.log,
    }


async def _program(pod: str, identity: str, program: RunningProgram) -> dict[str, Any]:
    host, _, port = program.address.rpartition(":")
    is_up = not program.address or await accepts((host.strip("[]"), int(port)))
    return {
        "name": program.name,
        "kind": "program",
        "pod": pod,
        "address": program.address,
        "state": "ready" if is_up else "accepts no connections",
        "identity": identity,
        "log": program.log,
    }
