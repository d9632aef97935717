"""Command lines, files and ports of the mesh's programs. Pure.

The ztunnel and each waypoint have their own address, and therefore the standard ports.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from waypoint.mesh.ingress import Ingress
from waypoint.mesh.overlay import HBONE_PORT, NODE
from waypoint.mesh.plan import Mesh, Waypoint
from waypoint.mesh.pods import Process
from waypoint.mesh.supervisor import Launch

ADMIN_PORT = 15000
METRICS_PORT = 15020
READINESS_PORT = 15021
READINESS_PATH = "/healthz/ready"
ZTUNNEL = "ztunnel"

_PROXY_SETTINGS = {"DRAIN_DELAY_SECONDS": "0", "DRAIN_SECONDS": "3"}
"""On a laptop there are no load balancers to notify, and Ctrl-C should be fast."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy of the mesh: `kind` is waypoint or ztunnel, `workload` what a waypoint is called in metrics, `admin` its
    administration port."""

    name: str
    kind: str
    workload: str
    admin: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths in the run directory."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "authority"

    @property
    def certificates(self) -> Path:
        return self.folder / "certificates"

    @property
    def overlay(self) -> Path:
        return self.folder / "overlay"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name.replace('/', '.').replace(' ', '.')}.log"


@dataclass(frozen=True, slots=True)
class Launcher:
    """Common parts of all command lines. `environment` is that of `mesh up`."""

    layout: Layout
    manifests: Sequence[Path]
    trust_bundle: Path
    environment: Mapping[str, str]
    shows_access_log: bool = False

    def proxies(self, mesh: Mesh) -> dict[str, Launch]:
        waypoints = {proxy_name(waypoint): self._waypoint(waypoint) for waypoint in mesh.waypoints}
        return {ZTUNNEL: self._ztunnel(mesh), **waypoints}

    def programs(self, mesh: Mesh) -> dict[str, Launch]:
        return {process.name: self._program(process) for pod in mesh.pods for process in pod.processes}

    def _program(self, process: Process) -> Launch:
        return Launch(
            argv=process.argv,
            directory=process.directory,
            log=self.layout.log(process.name),
            ready=(process.address, process.port) if process.port else None,
            revision=process,
            environment={**self.environment, **process.environment},
        )

    def _ztunnel(self, mesh: Mesh) -> Launch:
        own = ["--node", NODE, "--certificates", str(self.layout.certificates)]
        return self._proxy(ZTUNNEL, "l4.ztunnel.cli", mesh.ztunnel_address, own)

    def _waypoint(self, waypoint: Waypoint) -> Launch:
        gateway, pod = waypoint.gateway, waypoint.pod
        chain = self.layout.certificates / f"{pod.namespace}.{pod.service_account}.pem"
        own = ["--gateway", f"{gateway.namespace}/{gateway.name}", "--listen", f"{pod.address}:{HBONE_PORT}"]
        own += ["--certificate", str(chain), "--private-key", str(chain.with_suffix(".key"))]
        return self._proxy(
            proxy_name(waypoint), "waypoint.cli", pod.address, own, shows_access_log=self.shows_access_log
        )

    def _proxy(
        self, name: str, module: str, address: str, own: Sequence[str], *, shows_access_log: bool = False
    ) -> Launch:
        paths = [*self.manifests, self.layout.overlay]
        access_log = "-" if shows_access_log else str(self.layout.log(f"{name}-access"))
        return Launch(
            argv=(
                *(sys.executable, "-c", _PROXY.format(module=module), "run"),
                *(word for path in paths for word in ("--resources", str(path))),
                *own,
                *("--trust-bundle", str(self.trust_bundle)),
                *("--metrics", f"{address}:{METRICS_PORT}"),
                *("--readiness", f"{address}:{READINESS_PORT}"),
                *("--admin", f"{address}:{ADMIN_PORT}"),
                *("--access-log", access_log),
            ),
            directory=Path.cwd(),
            log=self.layout.log(name),
            ready=(address, READINESS_PORT),
            ready_path=READINESS_PATH,
            shows_output=shows_access_log,
            is_vital=True,
            environment={**_PROXY_SETTINGS, **self.environment},
        )


_PROXY = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from {{module}} import main; main()"
"""Runs this installation's code, whose packages are not on the import path of other programs."""


def proxies_of(mesh: Mesh) -> list[Proxy]:
    waypoints = [
        Proxy(proxy_name(it), "waypoint", f"{it.pod.namespace}/{it.gateway.name}", (it.pod.address, ADMIN_PORT))
        for it in mesh.waypoints
    ]
    return [Proxy(ZTUNNEL, "ztunnel", "", (mesh.ztunnel_address, ADMIN_PORT)), *waypoints]


def proxy_name(waypoint: Waypoint) -> str:
    return f"waypoint {waypoint.gateway.namespace}/{waypoint.gateway.name}"


def needed_ports(mesh: Mesh, ingresses: Iterable[Ingress]) -> Iterator[tuple[str, int, str]]:
    """Yield every address and port that must be free, and advice if it is not."""
    for ingress in ingresses:
        yield *ingress.listen, f"choose another address with --ingress {ingress}=ADDRESS:PORT"
    operators = (ADMIN_PORT, METRICS_PORT, READINESS_PORT)
    own: list[tuple[str, tuple[int, ...]]] = [(mesh.ztunnel_address, operators)]
    own += [(waypoint.pod.address, (HBONE_PORT, *operators)) for waypoint in mesh.waypoints]
    own += [(pod.address, (HBONE_PORT, *(it.port for it in pod.processes if it.port))) for pod in mesh.pods]
    for address, ports in own:
        for port in ports:
            yield address, port, "the laptop mesh needs it; another one may be running"
