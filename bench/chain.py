"""The chain that is measured: wrk → Envoy → HBONE → waypoint (ours or Envoy) → HBONE → Envoy → Envoy, the application.

Everything is on loopback and stops with the block it was started in.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from l4.identity.authority import DevelopmentAuthority
from policies.attributes import Identity
from tests.kit import envoy

SERVICE = ("127.96.0.10", 9080)
ENTRY = ("127.0.0.1", 18080)
_APP = ("127.0.0.1", 19080)
_WAYPOINT = ("127.0.0.2", 15008)
_DEST = ("127.0.0.3", 15008)
_ENDPOINT = ("127.0.0.3", 9080)
_START_SECONDS = 20


@dataclass(frozen=True, slots=True)
class System:
    """A waypoint under test: its process, and what it costs."""

    name: str
    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        """User and system time so far, children included."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Chain:
    """The parts that stay: source, destination, application. `system(name)` puts a waypoint between them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        authority = DevelopmentAuthority(folder / "ca")
        (folder / "certs").mkdir()
        self._roots = authority.bundle_path
        self._pairs = {
            name: authority.write(Identity("cluster.local", "default", name), folder / "certs")
            for name in ("client", "waypoint", "app")
        }
        stack.enter_context(envoy.run(envoy.app(listen=_APP), ready=_APP))
        dest = envoy.dest(self._certificate("app"), listen=_DEST, app=_APP)
        stack.enter_context(envoy.run(dest, ready=_DEST))
        _write_manifests(folder / "resources")

    @contextmanager
    def system(self, name: str) -> Iterator[System]:
        """`ours` or `envoy`, with a fresh source in front."""
        starting = self._ours() if name == "ours" else self._envoy()
        authority = f"{SERVICE[0]}:{SERVICE[1]}"
        source = envoy.source(self._certificate("client"), listen=ENTRY, to=_WAYPOINT, authority=authority)
        with starting as process, envoy.run(source, ready=ENTRY):
            _wait_until_served()
            yield System(name, process)

    def _certificate(self, name: str) -> envoy.Certificate:
        return envoy.Certificate(self._pairs[name], self._pairs[name].with_suffix(".key"), self._roots)

    @contextmanager
    def _envoy(self) -> Iterator[subprocess.Popen[bytes]]:
        config = envoy.waypoint(
            self._certificate("waypoint"),
            listen=_WAYPOINT,
            to=_DEST,
            authority=f"{_ENDPOINT[0]}:{_ENDPOINT[1]}",
            access_log=self._folder / "envoy-access.log",
        )
        with envoy.run(config, ready=_WAYPOINT) as process:
            yield process

    @contextmanager
    def _ours(self) -> Iterator[subprocess.Popen[bytes]]:
        pair = self._pairs["waypoint"]
        host = _WAYPOINT[0]
        command = [sys.executable, "-m", "waypoint", "run", "--resources", self._folder / "resources"]
        command += ["--gateway", "default/waypoint", "--certificate", pair, "--private-key", pair.with_suffix(".key")]
        command += ["--trust-bundle", self._roots, "--listen", f"{host}:15008", "--metrics", f"{host}:15020"]
        command += ["--readiness", f"{host}:15021", "--admin", f"{host}:15000"]
        command += ["--access-log", self._folder / "ours-access.log"]
        errors = self._folder / "ours.log"
        environment = os.environ | {"DRAIN_DELAY_SECONDS": "0", "DRAIN_SECONDS": "1"}
        with (
            errors.open("wb") as log,
            subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment) as process,
        ):
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def _wait_until_served() -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://{ENTRY[0]}:{ENTRY[1]}/", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _write_manifests(folder: Path) -> None:
    """The service, its one pod, and a route with as many rules as Envoy is given."""
    folder.mkdir()
    backend = {"name": "app", "port": SERVICE[1]}
    jason = {"path": {"value": "/reviews"}, "headers": [{"name": "end-user", "value": "jason"}]}
    rules = [
        {"matches": [jason], "backendRefs": [backend], "timeouts": {"request": "15s"}},
        {"backendRefs": [backend], "timeouts": {"request": "15s"}},
    ]
    hostname = {"type": "Hostname", "value": "waypoint.default.svc.cluster.local"}
    objects = [
        _object("v1", "Namespace", "default", labels={"istio.io/use-waypoint": "waypoint"}),
        _object(
            "gateway.networking.k8s.io/v1",
            "Gateway",
            "waypoint",
            spec={
                "gatewayClassName": "pywaypoint",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
            status={"addresses": [hostname]},
        ),
        _object(
            "v1",
            "Service",
            "app",
            spec={
                "clusterIP": SERVICE[0],
                "ports": [{"name": "http", "port": SERVICE[1]}],
                "selector": {"app": "app"},
            },
        ),
        _object(
            "v1",
            "Pod",
            "app-1",
            labels={"app": "app"},
            annotations={"ambient.istio.io/redirection": "enabled"},
            spec={"serviceAccountName": "app"},
            status={"podIP": _ENDPOINT[0]},
        ),
        _object(
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            "app",
            spec={"parentRefs": [{"group": "", "kind": "Service", "name": "app"}], "rules": rules},
        ),
    ]
    (folder / "mesh.yaml").write_text(yaml.safe_dump_all(objects))


def _object(version: str, kind: str, name: str, **fields: object) -> dict[str, object]:
    metadata = {"name": name} | {key: fields.pop(key) for key in ("labels", "annotations") if key in fields}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
