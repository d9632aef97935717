"""The chain that is measured: wrk → Envoy → HBONE → waypoint (ours or Envoy) → HBONE → Envoy → Envoy, the application.

Both waypoints stand side by side, each with a source of its own, so that turns can be short. Everything is on loopback
and stops with the block it was started in.
"""

import os
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import h2load
from l4.identity.authority import DevelopmentAuthority
from policies.attributes import Identity
from tests.kit import envoy

_ROOT = Path(__file__).parents[1]
OURS = next(folder for folder in (_ROOT / "build" / "twin" / "pywaypoint", _ROOT) if (folder / "waypoint").is_dir())
"""Where our packages are taken from: the compiled twin, if `make build/twin` has built it, else the source."""

DOWNLOAD_MIB = 10

_MANIFESTS = Path(__file__).with_name("mesh.yaml")
_SERVICE = "127.96.0.10:9080"
_GRPC_SERVICE = "127.96.0.10:9081"
_ENDPOINT = "127.0.0.3:9080"
_ENTRIES = {"ours": ("127.0.0.1", 18080), "envoy": ("127.0.0.1", 18081)}
_GRPC_ENTRIES = {"ours": ("127.0.0.1", 18082), "envoy": ("127.0.0.1", 18083)}
_WAYPOINTS = {"ours": ("127.0.0.2", 15008), "envoy": ("127.0.0.4", 15008)}
_DEST = ("127.0.0.3", 15008)
_APP = ("127.0.0.1", 19080)
_START_SECONDS = 20
_STOP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class System:
    """A waypoint under test: where the load goes in, and what it and its children cost."""

    name: str
    entry: envoy.Address
    grpc_entry: envoy.Address
    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        ticks = 0
        for pid in _family(self.process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # utime, stime, and both of children that have ended
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _family(self.process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Chain:
    """The destination and the application; `system` puts a waypoint and a source in front of them."""

    def __init__(self, folder: Path, stack: ExitStack, python: str, under: Sequence[str] = ()) -> None:
        """Starts them, until the stack is closed. `python` runs ours, and `under` runs each waypoint, as valgrind does.

        Raises CannotStart.
        """
        self._folder = folder
        self._python = python
        self._under = under
        authority = DevelopmentAuthority(folder / "ca")
        (folder / "certs").mkdir()
        self._certificates = {
            name: envoy.Certificate(chain, chain.with_suffix(".key"), authority.bundle_path)
            for name in ("client", "waypoint", "app")
            for chain in [authority.write(Identity("cluster.local", "default", name), folder / "certs")]
        }
        download = folder / "download"
        download.write_bytes(bytes(DOWNLOAD_MIB << 20))
        stack.enter_context(envoy.run(envoy.app(listen=_APP, download=download), ready=_APP))
        dest = envoy.dest(self._certificates["app"], listen=_DEST, app=_APP)
        stack.enter_context(envoy.run(dest, ready=_DEST))

    @contextmanager
    def system(self, name: str) -> Iterator[System]:
        """`ours` or `envoy`, with a source of its own, from when a request gets through. Raises CannotStart."""
        entry, grpc_entry, listen = _ENTRIES[name], _GRPC_ENTRIES[name], _WAYPOINTS[name]
        access_log = self._folder / f"{name}-access.log"
        start = self._ours if name == "ours" else self._envoy
        source = envoy.source(
            self._certificates["client"],
            listen=entry,
            to=listen,
            authority=_SERVICE,
            more={grpc_entry: _GRPC_SERVICE},
        )
        try:
            with start(listen, access_log) as process, envoy.run(source, ready=entry):
                system = System(name, entry, grpc_entry, process)
                _wait_until_served(system)
                yield system
        finally:
            access_log.unlink(missing_ok=True)  # it has grown by a few MB for each second of load

    def _envoy(self, listen: envoy.Address, access_log: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
        certificate = self._certificates["waypoint"]
        config = envoy.waypoint(certificate, listen=listen, to=_DEST, authority=_ENDPOINT, access_log=access_log)
        return envoy.run(config, ready=listen, under=self._under)

    @contextmanager
    def _ours(self, listen: envoy.Address, access_log: Path) -> Iterator[subprocess.Popen[bytes]]:
        certificate, host = self._certificates["waypoint"], listen[0]
        options = {
            "resources": _MANIFESTS,
            "gateway": "default/waypoint",
            "certificate": certificate.chain,
            "private-key": certificate.key,
            "trust-bundle": certificate.roots,
            "listen": f"{host}:{listen[1]}",
            "metrics": f"{host}:15020",
            "readiness": f"{host}:15021",
            "admin": f"{host}:15000",
            "access-log": access_log,
        }
        command = [*self._under, self._python, "-m", "waypoint", "run"]
        command += (f"--{key}={value}" for key, value in options.items())
        environment = os.environ | {"DRAIN_DELAY_SECONDS": "0", "DRAIN_SECONDS": "1"}
        environment["PYTHONPATH"] = sysconfig.get_path("purelib")  # another interpreter has no libraries of its own
        errors = self._folder / "ours.log"
        envoy.require_free(listen)
        with (
            errors.open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=OURS) as process,
        ):
            try:
                envoy.wait_until_listening(process, listen, errors)
                yield process
            finally:
                _stop(process)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _wait_until_served(system: System) -> None:
    host, port = system.entry
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://{host}:{port}/", timeout=2).close()
            h2load.call(system.grpc_entry)
            return
        except (OSError, h2load.Void) as error:
            if time.monotonic() > deadline:
                raise envoy.CannotStart(f"no request gets through {system.name}: {error}") from error
        time.sleep(0.05)
