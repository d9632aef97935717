"""Bookinfo on this machine in three arrangements, from the manifests in examples/bookinfo.

| arrangement | a call from one pod to another |
|---|---|
| `none` | straight from program to program |
| `ambient` | ztunnel, waypoint, ztunnel: L4 at both ends and L7 once, as `waypoint mesh up` runs it |
| `sidecars` | a waypoint beside each pod: L7 at both ends |

All have the same programs, and the same routes but for `none`, where nobody would obey them: all reviews come from v3,
which asks ratings, so that a page is three calls. Addresses are not those of `waypoint mesh up`, which may run beside.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bench import sidecar
from bench.chain import default_packages
from bench.pages import Page
from bench.process import cpu_seconds, pss_mib, stop
from l4.config.folder import FolderSource
from l4.config.intake import Intake
from l4.discovery.label_names import REDIRECTION
from l4.identity.authority import DevelopmentAuthority
from waypoint.mesh.addresses import Addresses, in_view
from waypoint.mesh.launches import READINESS_PATH, READINESS_PORT, Launcher, Layout
from waypoint.mesh.manifests import KINDS
from waypoint.mesh.overlay import Content, overlay, write
from waypoint.mesh.plan import plan
from waypoint.mesh.pods import Pod
from waypoint.mesh.probes import Address, accepts, get
from waypoint.mesh.programs import load_programs
from waypoint.mesh.supervisor import Launch

ARRANGEMENTS = ("none", "ambient", "sidecars")
ROOT = Path(__file__).parents[1]
PACKAGES = default_packages()
"""Where the proxies are taken from."""
_BOOKINFO = ROOT / "examples" / "bookinfo"
_MANIFESTS = (_BOOKINFO / "platform", _BOOKINFO / "gateway.yaml", Path(__file__).with_name("bookinfo.yaml"))
_FRONT, _REVIEWS = "productpage", "reviews-v3"
_PARTS = (b"Every missed connection cost Fogg an hour", b"red stars")
_OWN, _OWN_VIEWS = 8, 64
"""What is added to the second number of the laptop mesh's addresses: 127.64.0.1 becomes 127.72.0.1."""
_START_SECONDS = 60.0
_SIDECAR = "import sys; sys.path[:0] = {paths!r}; import runpy; runpy.run_module('bench.sidecar', run_name='__main__')"


class CannotStart(Exception):
    """A program ended, or no page came in time. The message says which."""


@dataclass(frozen=True, slots=True)
class Program:
    """`name` is that of a pod, `ztunnel`, `waypoint`, or `sidecar of` a pod."""

    name: str
    pid: int

    @property
    def kind(self) -> str:
        """`ztunnel`, `waypoint`, `sidecars` or `applications`."""
        first, _, rest = self.name.partition(" ")
        return "sidecars" if rest else first if first in ("ztunnel", "waypoint") else "applications"


@dataclass(frozen=True, slots=True)
class Running:
    """An arrangement that answers pages."""

    name: str
    page: Page
    programs: tuple[Program, ...]

    def cpu_seconds(self) -> dict[str, float]:
        """By name of a program."""
        return {it.name: cpu_seconds(it.pid) for it in self.programs}

    def memory_mib(self) -> dict[str, float]:
        """By name of a program; what programs share is divided among them."""
        return {it.name: pss_mib(it.pid) for it in self.programs}


@contextmanager
def running(name: str, folder: Path) -> Iterator[Running]:
    """Run an arrangement, with its files in a folder, from when pages are complete. Raises CannotStart."""
    bookinfo = _Bookinfo(folder)
    launches = {"none": bookinfo.none, "ambient": bookinfo.ambient, "sidecars": bookinfo.sidecars}[name]()
    with ExitStack() as stack:
        programs = {it: stack.enter_context(_started(launch)) for it, launch in launches.items()}
        _wait_until(lambda: all(map(_is_ready, launches.values())), programs, "not all programs are ready")
        page = Page(bookinfo.front, "/productpage", _PARTS)
        _wait_until(lambda: _is_whole(page), programs, "the page is not complete")
        yield Running(name, page, tuple(Program(it, process.pid) for it, process in programs.items()))


class _Bookinfo:
    """The laptop mesh's plan of Bookinfo, at addresses of its own, and the programs of each arrangement by name."""

    def __init__(self, folder: Path) -> None:
        taken = Intake(KINDS).take(asyncio.run(FolderSource(_MANIFESTS).load()))
        programs = load_programs([_BOOKINFO / "programs.yaml"])
        first = plan(taken.resources, programs, (), Addresses())
        self._mesh = plan(taken.resources, programs, (), _moved(first.addresses))
        self._contents = {it.key: it.content for it in taken.documents}
        self._layout = Layout(folder)
        self._layout.certificates.mkdir(parents=True)
        self._layout.logs.mkdir()
        authority = DevelopmentAuthority(self._layout.authority)
        for identity in self._mesh.identities:
            authority.write(identity, self._layout.certificates)
        self._roots = authority.bundle_path
        self._launcher = Launcher(self._layout, _MANIFESTS, self._roots, os.environ)

    @property
    def front(self) -> Address:
        """Of the program itself: what the mesh costs at the first hop is left out of all arrangements."""
        (pod,) = (it for it in self._mesh.pods if it.labels["app"] == _FRONT)
        return pod.address, _port(pod)

    def none(self) -> dict[str, Launch]:
        """Programs that know each other's addresses."""
        launches = self._launcher.programs(self._mesh)
        return {pod.name: _direct(launches[pod.key], self._backends(pod)) for pod in self._mesh.pods}

    def ambient(self) -> dict[str, Launch]:
        """The programs, a ztunnel and a waypoint."""
        self._layout.overlay.mkdir()
        write(self._layout.overlay / "mesh.yaml", self._overlay())
        proxies = self._launcher.proxies(self._mesh)
        return self._programs() | {it.partition(" ")[0]: _of_ours(launch) for it, launch in proxies.items()}

    def sidecars(self) -> dict[str, Launch]:
        """The programs, and a sidecar for each."""
        return self._programs() | {f"sidecar of {it.name}": self._sidecar(it) for it in self._mesh.pods}

    def _programs(self) -> dict[str, Launch]:
        launches = self._launcher.programs(self._mesh)
        return {pod.name: launches[pod.key] for pod in self._mesh.pods}

    def _backends(self, pod: Pod) -> dict[str, str]:
        """The address of a pod of each Service, by that at which `pod` reaches the Service through a mesh."""
        found: dict[str, str] = {}
        for service, address in self._mesh.reachable:
            chosen = [it for it in self._mesh.pods if service.selects(it.namespace, it.labels)]
            chosen = [it for it in chosen if it.name.startswith(_REVIEWS)] or chosen
            found |= {in_view(pod.capture, address): it.address for it in chosen[:1]}
        return found

    def _sidecar(self, pod: Pod) -> Launch:
        folder = self._layout.overlay / pod.name
        folder.mkdir(parents=True)
        write(folder / "mesh.yaml", (_seen_by(pod, it) for it in self._overlay()))
        (gateway,) = (it.gateway for it in self._mesh.waypoints)
        chain, key = DevelopmentAuthority.pair(pod.identity, self._layout.certificates)
        its = sidecar.Pod(
            address=pod.address,
            namespace=gateway.namespace,
            gateway=gateway.name,
            resources=(*map(str, _MANIFESTS), str(folder)),
            certificate=(str(chain), str(key), str(self._roots)),
            access_log=str(self._layout.log(f"{pod.name}-access")),
            captured=tuple(
                ((in_view(pod.capture, address), port.port), (address, port.port))
                for service, address in self._mesh.reachable
                for port in service.spec.ports
            ),
        )
        program = _SIDECAR.format(paths=[str(PACKAGES), str(ROOT)])
        return Launch(
            argv=(sys.executable, "-c", program, msgspec.json.encode(its).decode()),
            directory=ROOT,
            log=self._layout.log(f"sidecar of {pod.name}"),
            ready=(pod.address, READINESS_PORT),
            ready_path=READINESS_PATH,
            environment={**os.environ, "DRAIN_DELAY_SECONDS": "0", "DRAIN_SECONDS": "1"},
        )

    def _overlay(self) -> Iterator[Content]:
        """With everything ready, because all of it is started before anybody asks."""
        mesh = self._mesh
        waypoints = (it.pod for it in mesh.waypoints)
        return overlay(mesh, self._contents, frozenset(it.key for it in (*mesh.pods, *waypoints)))


def _moved(addresses: Addresses) -> Addresses:
    return Addresses(
        services={it: _plus(address, _OWN) for it, address in addresses.services.items()},
        pods={it: _plus(address, _OWN) for it, address in addresses.pods.items()},
        views={it: _plus(block, _OWN_VIEWS) for it, block in addresses.views.items()},
    )


def _plus(address: str, more: int) -> str:
    first, second, rest = address.split(".", 2)
    return f"{first}.{int(second) + more}.{rest}"


def _port(pod: Pod) -> int:
    (process,) = pod.processes
    assert process.port is not None
    return process.port


def _direct(launch: Launch, addresses: Mapping[str, str]) -> Launch:
    environment = {name: addresses.get(value, value) for name, value in launch.environment.items()}
    return replace(launch, environment=environment)


def _of_ours(launch: Launch) -> Launch:
    """The same program of what is measured: the compiled twin, if there is one."""
    interpreter, option, program, *rest = launch.argv
    return replace(launch, argv=(interpreter, option, program.replace(repr(str(ROOT)), repr(str(PACKAGES))), *rest))


def _seen_by(pod: Pod, content: Content) -> Content:
    """An object of the overlay as the sidecar of a pod knows it: it serves the pod, whose program speaks plain HTTP."""
    metadata = {**content["metadata"]}
    if content["kind"] == "Gateway":
        metadata["labels"] = {**metadata.get("labels", {}), "istio.io/waypoint-for": "all"}
    elif (content["kind"], metadata["name"]) == ("Pod", pod.name):
        metadata["labels"] = {**metadata["labels"], "istio.io/use-waypoint": "waypoint"}
        metadata["annotations"] = {it: text for it, text in metadata["annotations"].items() if it != REDIRECTION}
    return {**content, "metadata": metadata}


@contextmanager
def _started(launch: Launch) -> Iterator["subprocess.Popen[bytes]"]:
    with (
        launch.log.open("wb") as log,
        subprocess.Popen(
            launch.argv, cwd=launch.directory, env=launch.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield process
        finally:
            stop(process)


def _is_ready(launch: Launch) -> bool:
    assert launch.ready is not None
    if launch.ready_path:
        return asyncio.run(get(launch.ready, launch.ready_path)) is not None
    return asyncio.run(accepts(launch.ready))


def _is_whole(page: Page) -> bool:
    try:
        with socket.create_connection(page.address, 5) as sock:
            return page.ask(sock)
    except OSError:
        return False


def _wait_until(what: Callable[[], bool], programs: Mapping[str, "subprocess.Popen[bytes]"], otherwise: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not what():
        if ended := [name for name, it in programs.items() if it.poll() is not None]:
            raise CannotStart(f"{', '.join(ended)} ended before pages came")
        if time.monotonic() > deadline:
            raise CannotStart(f"{otherwise} after {_START_SECONDS:g} s")
        time.sleep(0.1)
