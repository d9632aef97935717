"""Steady load between pods of both nodes, through a waypoint, and what became of its requests.

On each node there is one client and one replica of the application, by DaemonSets, so that draining a node leaves them
where they are. The programs are those of `tests.kit`, mounted into containers of the project's own image.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.images import PYWAYPOINT
from tests.cluster.kubectl import kubectl
from tests.cluster.machine import NODES
from tests.image.buildah import ROOT
from tests.kit.timed import GRPC_PORT, HTTP_PORT

_FILES = (
    "tests/cluster/load_program.py",
    "tests/kit/grpc_echo.py",
    "tests/kit/load.py",
    "tests/kit/timed.py",
)
_READY_SECONDS = 120.0
_NEWS_SECONDS = 30.0
"""More than the longest that a request may take, and a second until it is written."""
_PROGRAM = (
    'PYTHONPATH=/load:`python3 -c "import os, pywaypoint; print(os.path.dirname(pywaypoint.__file__))"` '
    'exec python3 -m tests.cluster.load_program "$@"'
)
"""The image's packages are where its Python is, whose version it chooses."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Times are of the wall clock."""

    kind: str
    began: float
    ended: float
    reason: str


@dataclass
class Outcome:
    """The requests that ended during a block of `Load.watched` or were active at its end."""

    what: str
    began: float
    seconds: float = 0.0
    milliseconds: dict[str, list[int]] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(map(len, self.milliseconds.values()))

    def add(self, lines: Iterable[Any]) -> None:
        """Take what a client has written."""
        for line in lines:
            for kind, took in line["milliseconds"].items():
                self.milliseconds.setdefault(kind, []).extend(took)
            self.failed += [Failure(*it) for it in line["failed"]]

    def row(self) -> str:
        """A line of a table: what happened, requests, failures, the median and p99, and how long it took."""
        took = sorted(it for kind in self.milliseconds.values() for it in kind)
        median, p99 = (took[len(took) * share // 100] if took else 0 for share in (50, 99))
        kinds = {kind: len(it) for kind, it in self.milliseconds.items()}
        failures = dict(Counter(f"{it.kind}: {it.reason}" for it in self.failed))
        return (
            f"{self.what}: {self.requests} requests {kinds} in {self.seconds:.0f} s, p50 {median} ms, p99 {p99} ms, "
            f"longest {max(took, default=0)} ms; failed: {len(self.failed)} {failures}"
        )


class Load:
    """`rate` requests a second in all, in a namespace of its own whose waypoint is called `waypoint`."""

    def __init__(self, namespace: str, rate: float) -> None:
        self._namespace = namespace
        self._rate = rate
        self._clients: list[str] = []

    def start(self) -> None:
        """Starts the load once all its pods are redirected. The namespace has to be in the mesh."""
        kubectl("apply", "-n", self._namespace, "-f", "-", given=_manifests(self._rate / len(NODES)))
        for name in ("app", "client"):
            kubectl("rollout", "status", "-n", self._namespace, f"daemonset/{name}", f"--timeout={_READY_SECONDS}s")
        deadline = time.monotonic() + _READY_SECONDS
        while not all(it.get("annotations", {}).get(_REDIRECTION) == "enabled" for it in self._pods("app")):
            assert time.monotonic() < deadline, "the pods are not redirected"
            time.sleep(0.2)
        self._clients = [it["name"] for it in self._pods("app=client")]
        for name in self._clients:
            kubectl("exec", "-n", self._namespace, name, "--", "touch", "/tmp/go")

    @contextmanager
    def watched(self, what: str) -> Iterator[Outcome]:
        """Yields the outcome, filled when the block has ended and no request of it is active any more."""
        seen = Outcome(what, time.time())
        yield seen
        ended = time.time()
        seen.seconds = ended - seen.began
        for name in self._clients:
            seen.add(self._lines(name, seen.began, ended))
        print(f"\n{seen.row()}")

    def _lines(self, name: str, began: float, ended: float) -> list[Any]:
        """The lines of a client from the first after `began` to the one that knows all requests that began before
        `ended`."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began))
        deadline = time.monotonic() + _NEWS_SECONDS
        while True:
            text = kubectl("logs", "-n", self._namespace, name, f"--since-time={since}")
            if (lines := lines_between(text, began, ended)) is not None:
                return lines
            assert time.monotonic() < deadline, f"client {name} has written {text[-500:]}, and no more"
            time.sleep(0.5)

    def _pods(self, selector: str) -> list[Any]:
        text = kubectl("get", "pods", "-n", self._namespace, "-l", selector, "-o", "json")
        return [it["metadata"] for it in json.loads(text)["items"]]


def lines_between(text: str, began: float, ended: float) -> list[Any] | None:
    """The lines of a client from the first after `began` to the one that knows all requests that began before `ended`,
    or None if that one is not written yet."""
    lines = [it for it in map(json.loads, text.splitlines()) if it["at"] > began]
    last = next((number for number, it in enumerate(lines) if it["oldest"] > ended), None)
    return None if last is None else lines[: last + 1]


_REDIRECTION = "ambient.istio.io/redirection"


def _manifests(rate: float) -> dict[str, Any]:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "app"},
        "spec": {
            "selector": {"app": "app"},
            "ports": [{"name": "http", "port": HTTP_PORT}, {"name": "grpc", "port": GRPC_PORT}],
        },
    }
    programs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "programs"},
        "data": {it.replace("/", "."): (ROOT / it).read_text() for it in _FILES},
    }
    # A client finds the Service by the environment that it is given, so that no name is resolved under load.
    asks = _daemon_set("client", ["ask", "$(APP_SERVICE_HOST)"], RATE=str(rate))
    serves = _daemon_set("app", ["serve"])
    serves["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": HTTP_PORT}}
    return {"apiVersion": "v1", "kind": "List", "items": [service, programs, serves, asks]}


def _daemon_set(name: str, arguments: list[str], **environment: str) -> dict[str, Any]:
    container = {
        "name": name,
        "image": PYWAYPOINT,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", _PROGRAM, "sh", *arguments],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "volumeMounts": [{"name": "programs", "mountPath": "/load"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    programs = {"name": "programs", "items": [{"key": it.replace("/", "."), "path": it} for it in _FILES]}
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "programs", "configMap": programs}, {"name": "tmp", "emptyDir": {}}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }
