"""The running mesh of this user. Only one may run at a time, and other commands find its pods here.

There are two files in a user folder: `mesh.lock`, which the running mesh locks, and `mesh.json`, which describes what
each pod sees. A lock ends with its process, so a crashed mesh never counts as running.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from waypoint.mesh.addresses import in_view
from waypoint.mesh.environment import service_names
from waypoint.mesh.plan import Mesh


class AlreadyRunning(Exception):
    """Another mesh holds the lock."""


class NotRunning(Exception):
    """No mesh is running, or it has no such pod. The message lists the pods."""


class SeenService(msgspec.Struct, frozen=True):
    """A Service as a pod sees it. `port` is its first port, or 0."""

    address: str
    port: int


class RunningPod(msgspec.Struct, frozen=True):
    """`names` are all names of the pod for commands: its own, its owner's, and those of Services that select it."""

    key: str
    names: tuple[str, ...]
    identity: str
    environment: dict[str, str]
    services: dict[str, SeenService]
    """Services by every DNS name that the pod may use."""

    @property
    def addresses(self) -> Mapping[str, str]:
        return {name: service.address for name, service in self.services.items()}


def folder(environment: Mapping[str, str]) -> Path:
    """Return the folder in XDG_RUNTIME_DIR, which a login session sets, or in the user's cache."""
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "pywaypoint"
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pywaypoint"


@contextmanager
def only_one(place: Path) -> Iterator[None]:
    """Hold the lock. Raises AlreadyRunning."""
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _open(place / "mesh.lock", creates=True) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock.fileno(), 20, 0).decode(errors="replace").strip()
            who = f"process {holder}" if holder.isdecimal() else "another process"
            raise AlreadyRunning(
                f"a laptop mesh is already running ({who}); stop it with Ctrl-C in its terminal, then try again"
            ) from None
        os.ftruncate(lock.fileno(), 0)
        os.pwrite(lock.fileno(), f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            (place / "mesh.json").unlink(missing_ok=True)


def publish(place: Path, pods: Sequence[RunningPod]) -> None:
    """Write the file atomically."""
    draft = place / ".mesh.json"
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(pods))
    draft.replace(place / "mesh.json")


def pods_of(mesh: Mesh) -> list[RunningPod]:
    """Return what `publish` writes for a mesh."""
    found = []
    for pod in mesh.pods:
        selecting = [
            service.metadata.name for service, _ in mesh.reachable if service.selects(pod.namespace, pod.labels)
        ]
        owner = [pod.owner.name] if pod.owner is not None else []
        seen = [(service, in_view(pod.capture, address)) for service, address in mesh.reachable]
        ports = {address: next((port.port for port in service.spec.ports), 0) for service, address in seen}
        services = {
            name: SeenService(address, ports[address]) for name, address in service_names(seen, pod.namespace).items()
        }
        environment = dict(pod.processes[0].environment) if pod.processes else {}
        names = tuple(dict.fromkeys([pod.name, *owner, *selecting]))
        found.append(RunningPod(pod.key, names, str(pod.identity), environment, services))
    return found


def find(place: Path, wanted: str) -> RunningPod:
    """Return the first pod with this name, owner or selecting Service: `[NAMESPACE/]NAME`. Raises NotRunning."""
    namespace, _, name = wanted.rpartition("/")
    pods = _published(place)
    for pod in pods:
        if pod.key.startswith(f"{namespace or 'default'}/") and name in pod.names:
            return pod
    raise NotRunning(f"the mesh has no pod {wanted}; it has {', '.join(_names(pods))}")


def names(place: Path) -> list[str]:
    """Return all names for `find`, for shell completion. Empty if no mesh runs."""
    try:
        return _names(_published(place))
    except NotRunning:
        return []


def _names(pods: Iterable[RunningPod]) -> list[str]:
    """Names in the default namespace are written without it."""
    found = {(pod.key.partition("/")[0], name) for pod in pods for name in pod.names}
    return sorted(name if namespace == "default" else f"{namespace}/{name}" for namespace, name in found)


def _published(place: Path) -> list[RunningPod]:
    try:
        with _open(place / "mesh.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return msgspec.json.decode((place / "mesh.json").read_bytes(), type=list[RunningPod])
        except FileNotFoundError:
            raise NotRunning("the laptop mesh is still starting; try again in a few seconds") from None
    except FileNotFoundError:
        pass
    raise NotRunning("no laptop mesh is running; start one with `waypoint mesh up`, for example by `make bookinfo`")


def _open(path: Path, *, creates: bool = False) -> IO[bytes]:
    return open(os.open(path, os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if creates else 0), 0o600), "r+b", buffering=0)
