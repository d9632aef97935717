"""The running mesh of this user. Only one may run at a time, and other commands find its pods here.

There are three files in a user folder: `mesh.lock` and `proxies.json` (`l4.asking.laptop`), and `mesh.json`, which
describes what each pod sees and which programs run as it.
"""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from l4.asking import laptop
from policies.host_port import host_port
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


class RunningProgram(msgspec.Struct, frozen=True):
    """A program of a pod. `address` is where it listens, or empty."""

    name: str
    address: str
    log: str


class RunningPod(msgspec.Struct, frozen=True):
    """`names` are all names of the pod for commands: its own, its owner's, and those of Services that select it."""

    key: str
    names: tuple[str, ...]
    identity: str
    environment: dict[str, str]
    services: dict[str, SeenService]
    """Services by every DNS name that the pod may use."""
    programs: tuple[RunningProgram, ...] = ()

    @property
    def addresses(self) -> Mapping[str, str]:
        return {name: service.address for name, service in self.services.items()}


@contextmanager
def only_one(place: Path) -> Iterator[None]:
    """Hold the lock. Raises AlreadyRunning."""
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    with laptop.open_lock(place, creates=True) as lock:
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
            laptop.forget(place)


def publish(place: Path, pods: Sequence[RunningPod], proxies: Sequence[laptop.Proxy]) -> None:
    """Record what runs."""
    laptop.write(place, "mesh.json", pods)
    laptop.record(place, proxies)


def pods_of(mesh: Mesh, log_of: Callable[[str], Path]) -> list[RunningPod]:
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
        programs = tuple(
            RunningProgram(it.name, host_port(it.address, it.port) if it.port else "", str(log_of(it.name)))
            for it in pod.processes
        )
        found.append(RunningPod(pod.key, names, str(pod.identity), environment, services, programs))
    return found


def find(place: Path, wanted: str) -> RunningPod:
    """Return the first pod with this name, owner or selecting Service: `[NAMESPACE/]NAME`. Raises NotRunning."""
    namespace, _, name = wanted.rpartition("/")
    pods = published(place)
    for pod in pods:
        if pod.key.startswith(f"{namespace or 'default'}/") and name in pod.names:
            return pod
    raise NotRunning(f"the mesh has no pod {wanted}; it has {', '.join(_names(pods))}")


def names(place: Path) -> list[str]:
    """Return all names for `find`, for shell completion. Empty if no mesh runs."""
    try:
        return _names(published(place))
    except NotRunning:
        return []


def _names(pods: Iterable[RunningPod]) -> list[str]:
    """Names in the default namespace are written without it."""
    found = {(pod.key.partition("/")[0], name) for pod in pods for name in pod.names}
    return sorted(name if namespace == "default" else f"{namespace}/{name}" for namespace, name in found)


def published(place: Path) -> list[RunningPod]:
    """Return the pods of the running mesh. Raises NotRunning."""
    if laptop.is_running(place):
        try:
            return msgspec.json.decode((place / "mesh.json").read_bytes(), type=list[RunningPod])
        except FileNotFoundError:
            raise NotRunning("the laptop mesh is still starting; try again in a few seconds") from None
    raise NotRunning("no laptop mesh is running; start one with `waypoint mesh up`, for example by `make bookinfo`")
