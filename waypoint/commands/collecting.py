"""What a bug report has: of each program, of the machine, and of the mesh's objects."""

import asyncio
import platform
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from l4 import version as own_version
from l4.asking import laptop
from l4.asking.admin import Admin, CannotAsk
from l4.asking.reach import HOME, Target, reached
from l4.config.documents import Document
from l4.config.source import CannotRead
from l4.configuration import read
from l4.kubernetes.options import KubernetesOptions
from waypoint.commands.archive import Archive, folder_of
from waypoint.config.kinds import KINDS

_PAGES = {
    "status.json": "/status",
    "config_dump.json": "/config_dump",
    "metrics.txt": "/stats",
    "clusters.json": "/clusters",
    "connections.json": "/connections",
    "policies.json": "/policies",
    "certificates.json": "/certificates",
}
_OF_WAYPOINTS = frozenset({"clusters.json", "connections.json", "policies.json", "certificates.json"})
_LOG_BYTES = 4 << 20
_LIBRARIES = ("aiohttp", "click", "cryptography", "grpcio", "h2", "msgspec", "protobuf", "uvloop")


def machine() -> dict[str, object]:
    return {
        "pywaypoint": own_version.version(),
        "python": sys.version,
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
    }


async def collect_programs(archive: Archive, targets: Iterable[Target]) -> None:
    """Ask each target for its pages, the programs of a target at once."""
    for target in targets:
        with archive.trying(f"{target.program} {target.name}".strip(), CannotAsk):
            async with reached(target) as admins:
                await asyncio.gather(*(_pages(archive, target.program, it) for it in admins))


def collect_laptop(archive: Archive, place: Path) -> None:
    """Add the logs of the laptop mesh's proxies, and the objects that they follow."""
    proxies = laptop.proxies(place)
    for it in proxies:
        with archive.trying(it.log, OSError):
            archive.add_text(f"{folder_of(it.program, it.name)}/log.txt", _tail(Path(it.log)))
    for resources in {it.resources for it in proxies}:
        with archive.trying("the objects of the laptop mesh", CannotRead):
            documents, _ = read(map(Path, resources), KINDS)
            _add_objects(archive, documents.documents)


def collect_objects(archive: Archive, target: Target) -> None:
    """Add the API server's objects of the kinds that a waypoint reads. Secrets are not among them."""
    with archive.trying("the objects of the API server", CannotRead):
        documents, _ = read(KubernetesOptions(target.kubeconfig, target.context), KINDS)
        _add_objects(archive, documents.documents)


def targets_of(target: Target) -> list[Target]:
    """Return the waypoints of the target, and the ztunnels beside them if more than one program is meant."""
    if target.admin is not None:
        return [target]
    namespace = HOME if target.is_of_cluster else ""
    return [target, replace(target, program="ztunnel", name="", namespace=namespace)]


async def _pages(archive: Archive, program: str, admin: Admin) -> None:
    folder = folder_of(program, admin.name)
    for name, page in _PAGES.items():
        if name in _OF_WAYPOINTS and program != "waypoint":
            continue
        with archive.trying(f"{admin.name}{page}", CannotAsk):
            if name.endswith(".json"):
                archive.add_values(f"{folder}/{name}", await admin.json(page))
            else:
                archive.add_text(f"{folder}/{name}", (await admin.get(page)).decode(errors="replace"))


def _add_objects(archive: Archive, documents: Iterable[Document]) -> None:
    by_kind: dict[str, list[object]] = {}
    for it in documents:
        if it.key.kind != "Secret":
            by_kind.setdefault(it.key.kind, []).append(it.content)
    for kind, contents in by_kind.items():
        archive.add_values(f"objects/{kind}.json", [dict(it) for it in contents])  # type: ignore[call-overload]


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LOG_BYTES))
        if size > _LOG_BYTES:
            file.readline()  # the rest of a line, in which a secret could no longer be recognized
        return file.read().decode(errors="replace")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
