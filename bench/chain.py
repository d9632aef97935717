"""The chain that is measured: load → Envoy → HBONE → waypoint (ours or Envoy) → HBONE → Envoy → Envoy, the application.

Both waypoints stand side by side, each with a source of its own, so that turns can be short. Everything is on loopback
and stops with the block it was started in.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import envoys, h2load, ours, setups, tokens
from bench.process import cpu_seconds, libraries, rss_mib, stop
from bench.setups import Setup
from bench.steady import Requests, is_answered
from bench.wrk import Void
from l4.identity.authority import DevelopmentAuthority
from policies.attributes import Identity
from tests.kit import envoy
from tests.kit.envoy_pieces import Address, Certificate
from tests.kit.mesh import address

_ROOT = Path(__file__).parents[1]
PLAIN = _ROOT
TWIN = _ROOT / "build" / "twin" / "pywaypoint"
"""Where `make build/twin` puts the compiled twin."""

FILES = {"/1KiB": 1 << 10, "/64KiB": 64 << 10, "/10MiB": 10 << 20}
"""What the application has for download, in bytes."""

BODY_BYTES = 325

_APP_PORT, _COLLECTOR_PORT, _STREAMS_PORT = 19080, 19081, 19082
_START_SECONDS = 60
_POLL_SECONDS = 0.005


def default_packages() -> Path:
    """The compiled twin if it is built, else the source."""
    return TWIN if (TWIN / "waypoint").is_dir() else PLAIN


@dataclass(frozen=True, slots=True)
class System:
    """A waypoint under test: where the load goes in, and what it and its children cost.

    `reconfigure` gives it another version of its configuration, which does the same. `ready_seconds` is from its start
    until a request has got through.
    """

    name: str
    setup: Setup
    folder: Path
    entry: Address
    grpc_entry: Address
    tcp_entry: Address
    listen: Address
    client: Certificate
    requests: Requests
    process: subprocess.Popen[bytes]
    ready_seconds: float
    reconfigure: Callable[[int], None]

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds(self.process.pid)

    def rss_mib(self) -> float:
        return rss_mib(self.process.pid)


class Chain:
    """The destination and the application; `system` puts a waypoint and a source in front of them."""

    def __init__(self, folder: Path, stack: ExitStack, *, python: str = sys.executable, packages: Path) -> None:
        """Starts them, until the stack is closed. `python` runs ours, from `packages`. Raises CannotStart."""
        self._folder = folder
        self._python = python
        self._packages = packages
        self._token, self._jwks = tokens.issue()
        self._endpoint = address()
        self._collector = (self._endpoint, _COLLECTOR_PORT)
        authority = DevelopmentAuthority(folder / "ca")
        (folder / "certs").mkdir()
        self._certificates = {
            name: Certificate(chain, chain.with_suffix(".key"), authority.bundle_path)
            for name in ("client", "waypoint", "app")
            for chain in [authority.write(Identity("cluster.local", "default", name), folder / "certs")]
        }
        files = {path: folder / path[1:] for path in FILES}
        for path, file in files.items():
            file.write_bytes(bytes(FILES[path]))
        listen, served = (self._endpoint, _APP_PORT), (self._endpoint, _STREAMS_PORT)
        stack.enter_context(_streams(served))
        app = envoys.app(listen=listen, files=files, body_bytes=BODY_BYTES, streams=served, collector=self._collector)
        stack.enter_context(envoy.run(app, ready=listen))
        tunnels = (self._endpoint, envoys.HBONE_PORT)
        dest = envoy.dest(self._certificates["app"], listen=tunnels, app=listen)
        stack.enter_context(envoy.run(dest, ready=tunnels))

    @contextmanager
    def system(self, name: str, setup: Setup = setups.FULL, under: Sequence[str] = ()) -> Iterator[System]:
        """`ours` or `envoy`, with a source of its own, from when a request gets through. Raises CannotStart.

        `under` is a command that runs the waypoint, such as valgrind.
        """
        host, listen = address(), (address(), envoys.HBONE_PORT)
        entry, grpc_entry, tcp_entry = ((host, it) for it in (setups.HTTP_PORT, setups.GRPC_PORT, setups.TCP_PORT))
        access_log = self._folder / f"{name}-access.log"
        start = self._ours if name == "ours" else self._envoy
        reconfigure = self._reconfigure_ours if name == "ours" else self._reconfigure_envoy
        reconfigure(setup, 0)
        source = envoy.source(
            self._certificates["client"],
            listen=entry,
            to=listen,
            authority=f"{setups.SERVICE}:{setups.HTTP_PORT}",
            more={
                grpc_entry: f"{setups.SERVICE}:{setups.GRPC_PORT}",
                tcp_entry: f"{setups.SERVICE_TCP}:{setups.TCP_PORT}",
            },
        )
        requests = Requests(
            f"/area-{setup.routes // 2}/items" if setup.routes > 1 else "/",
            {"authorization": f"Bearer {self._token}"} if setup.token else {},
        )
        try:
            with envoy.run(source, ready=entry):
                began = time.monotonic()
                with start(setup, listen, access_log, under) as process:
                    _wait_until_served(name, entry, requests)
                    ready_seconds = time.monotonic() - began
                    if not setup.token:
                        _wait_until_called(name, grpc_entry)
                    yield System(
                        name,
                        setup,
                        self._folder,
                        entry,
                        grpc_entry,
                        tcp_entry,
                        listen,
                        self._certificates["client"],
                        requests,
                        process,
                        ready_seconds,
                        lambda version: reconfigure(setup, version),
                    )
        finally:
            access_log.unlink(missing_ok=True)  # it has grown by a few MB for each second of load

    def _reconfigure_ours(self, setup: Setup, version: int) -> None:
        _replace(
            self._folder / "ours.yaml", ours.manifests(setup, endpoint=self._endpoint, jwks=self._jwks, version=version)
        )

    def _reconfigure_envoy(self, setup: Setup, version: int) -> None:
        _replace(self._folder / "routes.json", json.dumps(envoys.routes(setup, version)))

    def _envoy(
        self, setup: Setup, listen: Address, access_log: Path, under: Sequence[str]
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        config = envoys.waypoint(
            setup,
            self._certificates["waypoint"],
            listen=listen,
            endpoint=self._endpoint,
            access_log=access_log,
            routes=self._folder / "routes.json",
            collector=self._collector,
            jwks=self._jwks,
        )
        return envoy.run(config, ready=listen, under=under)

    @contextmanager
    def _ours(
        self, setup: Setup, listen: Address, access_log: Path, under: Sequence[str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        certificate, host = self._certificates["waypoint"], listen[0]
        options = {
            "resources": self._folder / "ours.yaml",
            "gateway": "default/waypoint",
            "certificate": certificate.chain,
            "private-key": certificate.key,
            "trust-bundle": certificate.roots,
            "listen": f"{host}:{listen[1]}",
            "metrics": f"{host}:15020",
            "readiness": f"{host}:15021",
            "admin": f"{host}:15000",
            "access-log": access_log if setup.access_log else "",
        }
        command = [*under, self._python, "-m", "waypoint", "run"]
        command += (f"--{key}={value}" for key, value in options.items())
        environment = os.environ | libraries(self._python) | {"DRAIN_DELAY_SECONDS": "0", "DRAIN_SECONDS": "1"}
        if setup.json_log:
            environment["ACCESS_LOG_ENCODING"] = "JSON"
        if setup.tracing:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{self._collector[0]}:{_COLLECTOR_PORT}"
        errors = self._folder / "ours.log"
        envoy.require_free(listen)
        with (
            errors.open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self._packages) as process,
        ):
            try:
                envoy.wait_until_listening(process, listen, errors, is_slow=bool(under))
                yield process
            finally:
                stop(process)


@contextmanager
def _streams(listen: Address) -> Iterator[None]:
    """The application's gRPC server for streams, in a process of its own."""
    envoy.require_free(listen)
    command = [sys.executable, "-m", "bench.streams", f"{listen[0]}:{listen[1]}"]
    with subprocess.Popen(command, cwd=_ROOT) as process:
        try:
            yield
        finally:
            stop(process)


def _replace(file: Path, text: str) -> None:
    """In one step, as who follows the file must see it."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def _wait_until_served(name: str, entry: Address, requests: Requests) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with socket.create_connection(entry, _START_SECONDS) as sock:
                sock.sendall(requests.head)
                if is_answered(sock):
                    return
                reason = "an answer was not 200"
        except OSError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise envoy.CannotStart(f"no request gets through {name}: {reason}")
        time.sleep(_POLL_SECONDS)


def _wait_until_called(name: str, entry: Address) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            h2load.call(entry)
            return
        except Void as error:
            if time.monotonic() > deadline:
                raise envoy.CannotStart(f"no call gets through {name}: {error}") from error
        time.sleep(_POLL_SECONDS)
