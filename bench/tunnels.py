"""The pair of ztunnels that is measured: load → a node's ztunnel ═HBONE═▶ another's → Envoy, the application.

In the place of ours stand two Envoys with TCP over HBONE, or two relays of TLS alone. Both pairs stand
side by side on loopback, each with addresses of its own, before the same application.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import envoys
from bench.chain import BODY_BYTES
from bench.process import cpu_seconds, libraries, rss_mib, stop
from l4.identity.authority import DevelopmentAuthority
from policies.attributes import Identity
from tests.kit import envoy, envoy_pieces
from tests.kit.envoy_pieces import Address, Certificate, Config
from tests.kit.mesh import address

BULK_PATH, BULK_MIB = "/download", 1
"""What one request of bulk asks for. Small enough that a second holds many also on a slow machine."""

_PORT = 9080
_CLIENT = "spiffe://cluster.local/ns/default/sa/client"


@dataclass(frozen=True, slots=True)
class Tunnels:
    """Two processes: `source` takes plain TCP at `entry`, and `dest` gives it to the application."""

    name: str
    entry: Address
    source: subprocess.Popen[bytes]
    dest: subprocess.Popen[bytes]

    def cpu_seconds(self) -> tuple[float, float]:
        """Of source and destination so far."""
        return cpu_seconds(self.source.pid), cpu_seconds(self.dest.pid)

    def rss_mib(self) -> tuple[float, float]:
        return rss_mib(self.source.pid), rss_mib(self.dest.pid)


class TunnelChain:
    """The application; `system` puts a pair in front of it."""

    def __init__(self, folder: Path, stack: ExitStack, *, python: str = sys.executable, packages: Path) -> None:
        """Starts it, until the stack is closed. `python` runs ours, from `packages`. Raises CannotStart."""
        self._folder = folder / "ztunnel"
        self._python = python
        self._packages = packages
        self._certs = self._folder / "certs"
        self._certs.mkdir(parents=True)
        authority = DevelopmentAuthority(self._folder / "ca")
        self._roots = authority.bundle_path
        for name in ("client", "app"):
            authority.write(Identity("cluster.local", "default", name), self._certs)
        download = self._folder / "download"
        download.write_bytes(bytes(BULK_MIB << 20))
        self._app = (address(), _PORT)
        app = envoys.app(
            listen=self._app,
            files={BULK_PATH: download},
            body_bytes=BODY_BYTES,
            streams=(self._app[0], _PORT + 1),
            collector=(self._app[0], _PORT + 2),
        )
        stack.enter_context(envoy.run(app, ready=self._app))

    @contextmanager
    def system(self, name: str, under: Sequence[str] = ()) -> Iterator[Tunnels]:
        """`ours`, `envoy` or `relay`; `under` is a command that runs each of both. Raises CannotStart."""
        entry = (address(), _PORT)
        pod = (self._app[0] if name == "ours" else address(), envoys.HBONE_PORT)  # ours connects to the pod's address
        start = {"ours": self._ours, "envoy": self._envoys, "relay": self._relays}[name]
        with ExitStack() as stack:
            dest, source = start(stack, entry, pod, under)
            yield Tunnels(name, entry, source, dest)

    def _ours(
        self, stack: ExitStack, entry: Address, pod: Address, under: Sequence[str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        file = self._folder / "mesh" / "ours.yaml"  # by itself: where logs are written, a ztunnel looks for changes
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n---\n".join(json.dumps(it) for it in _mesh(entry, self._app)))
        for node, ready in (("dest", pod), ("source", entry)):
            host = address()
            options = {
                "resources": file,
                "node": node,
                "certificates": self._certs,
                "trust-bundle": self._roots,
                "metrics": f"{host}:15020",
                "readiness": f"{host}:15021",
                "admin": f"{host}:15000",
                "access-log": self._folder / f"ours-{node}.access.log",
            }
            command = [self._python, "-m", "l4.ztunnel.cli", "run"]
            command += (f"--{key}={value}" for key, value in options.items())
            yield self._start(stack, under, command, ready, f"ours-{node}", DRAIN_SECONDS="1", DRAIN_DELAY_SECONDS="0")

    def _envoys(
        self, stack: ExitStack, entry: Address, pod: Address, under: Sequence[str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        dest = envoy.dest(self._certificate("app"), listen=pod, app=self._app)
        _only(dest, _CLIENT)
        source = envoy.source(
            self._certificate("client"), listen=entry, to=pod, authority=f"{self._app[0]}:{self._app[1]}"
        )
        for config, ready, name in ((dest, pod, "dest"), (source, entry, "source")):
            _log(config, self._folder / f"envoy-{name}.access.log")
            yield stack.enter_context(envoy.run(config, ready=ready, under=under))

    def _relays(
        self, stack: ExitStack, entry: Address, pod: Address, under: Sequence[str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        for role, account, listen, to in (("dest", "app", pod, self._app), ("source", "client", entry, pod)):
            it = self._certificate(account)
            ends = (f"{host}:{port}" for host, port in (listen, to))
            command = [self._python, str(Path(__file__).with_name("relay.py")), role, *ends]
            yield self._start(
                stack, under, [*command, str(it.chain), str(it.key), str(it.roots)], listen, f"relay-{role}"
            )

    def _start(
        self, stack: ExitStack, under: Sequence[str], command: list[str], ready: Address, name: str, **more: str
    ) -> subprocess.Popen[bytes]:
        environment = os.environ | libraries(self._python) | more
        errors = self._folder / f"{name}.log"
        envoy.require_free(ready)
        log = stack.enter_context(errors.open("wb"))
        process = subprocess.Popen([*under, *command], stdout=log, stderr=log, env=environment, cwd=self._packages)
        stack.callback(stop, process)
        envoy.wait_until_listening(process, ready, errors, is_slow=bool(under))
        return process

    def _certificate(self, account: str) -> Certificate:
        chain = self._certs / f"default.{account}.pem"
        return Certificate(chain, chain.with_suffix(".key"), self._roots)


def _mesh(entry: Address, app: Address) -> Iterator[Config]:
    """Two pods on two nodes, and a policy that lets one call the other."""
    yield {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "default", "labels": {"istio.io/dataplane-mode": "ambient"}},
    }
    captured = {"pywaypoint.dev/outbound-capture": f"{entry[0]}:{entry[1]}={app[0]}:{app[1]}"}
    for name, node, host, more in (("client", "source", address(), captured), ("app", "dest", app[0], {})):
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "default",
                "labels": {"app": name},
                "annotations": {"ambient.istio.io/redirection": "enabled", **more},
            },
            "spec": {"serviceAccountName": name, "nodeName": node},
            "status": {"podIP": host},
        }
    yield {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "app"}},
            "rules": [{"from": [{"source": {"principals": [_CLIENT.removeprefix("spiffe://")]}}]}],
        },
    }


def _managers(config: Config) -> Iterator[Config]:
    for listener in config["static_resources"]["listeners"]:
        yield listener["filter_chains"][0]["filters"][0]["typed_config"]


def _log(config: Config, path: Path) -> None:
    """A line for each connection, as ours writes."""
    for manager in _managers(config):
        manager["access_log"] = [
            envoy_pieces.named("file", "extensions.access_loggers.file.v3.FileAccessLog", path=str(path))
        ]


def _only(config: Config, identity: str) -> None:
    """Let only one identity in, as the policy of ours does."""
    principal = {"authenticated": {"principal_name": {"exact": identity}}}
    policy = {"permissions": [{"any": True}], "principals": [principal]}
    rules = {"action": "ALLOW", "policies": {"client": policy}}
    for manager in _managers(config):
        manager["http_filters"].insert(
            0, envoy_pieces.named("rbac", "extensions.filters.http.rbac.v3.RBAC", rules=rules)
        )
