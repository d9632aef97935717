"""What pods that become ready, and cease to be, cost a waypoint with a large configuration.

    python -m bench.churn [--services 1000] [--routes 5] [--pods 10] [--rate 50] [--seconds 60] [--start] [--profile]
        [--json]

Follows a folder as the program does, in this process: one file for the services and their routes, one for the pods of
each service. `--profile` prints where the time of a single change goes. Otherwise another process changes the readiness
of pods at the rate, and the figures are: the CPU of following, the time from a file's change to its being live, and how
long the event loop was held, which is how long a request may wait. The CPU of measuring is measured first, and left
out. What a start takes, and what a pod takes of memory, is measured in processes that do nothing else.
"""

import argparse
import asyncio
import cProfile
import json
import logging
import multiprocessing
import pstats
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench.figures import show
from l4.config.folder import FolderSource
from l4.config.settings import Settings
from l4.identity.files import FileStore
from l4.identity.source import OwnCertificate
from l4.readiness import Readiness
from policies.attributes import Identity
from waypoint.config.pipeline import Pipeline
from waypoint.config.snapshot import Snapshot
from waypoint.process.following import Following
from waypoint.process.worker import Parts, assemble

_NOBODY = ("127.0.0.1", 0)
_BEAT_SECONDS = 0.002
_CALM_SECONDS = 5.0
_WINDOW = 100
_PROFILED = 5
_LINES = 45

_AROUND = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: default}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio.io/use-waypoint: waypoint}}
"""
_SERVICE = """---
apiVersion: v1
kind: Service
metadata: {{name: s{0}, namespace: default}}
spec: {{clusterIP: 10.{1}.{2}.{3}, ports: [{{name: http, port: 8080}}], selector: {{app: s{0}}}}}
"""
_ROUTE = """---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: s{0}-{1}}}
spec:
  parentRefs: [{{group: "", kind: Service, name: s{0}}}]
  rules:
  - matches: [{{path: {{value: /area{1}}}}}, {{headers: [{{name: x-version, value: "{1}"}}]}}]
    filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-area, value: "{1}"}}]}}}}]
    backendRefs: [{{name: s{0}, port: 8080, weight: 9}}, {{name: s{2}, port: 8080}}]
"""
_POD = """---
apiVersion: v1
kind: Pod
metadata: {{name: s{0}-{1}, labels: {{app: s{0}}}, annotations: {{ambient.istio.io/redirection: enabled}}}}
spec: {{serviceAccountName: s{0}, nodeName: n{1}}}
status: {{phase: Running, podIP: 11.{2}.{3}.{4}, conditions: [{{type: Ready, status: "{5}"}}]}}
"""


@dataclass
class _Mesh:
    """A generated mesh in a folder; pods are changed by their number."""

    folder: Path
    services: int
    routes: int
    pods: int
    waiting: set[int] = field(default_factory=set)

    def write(self) -> None:
        self.folder.mkdir()
        self.folder.joinpath("mesh.yaml").write_text("".join(self._services()))
        for service in range(self.services):
            self._write_pods(service)

    def flip(self, pod: int) -> None:
        """Ready, or no longer."""
        self.waiting ^= {pod}
        self._write_pods(pod // self.pods)

    def is_ready(self, pod: int, snapshot: Snapshot) -> bool:
        return snapshot.registry.workloads[f"Kubernetes//Pod/default/s{pod // self.pods}-{pod % self.pods}"].is_healthy

    def _services(self) -> Iterator[str]:
        yield _AROUND
        for service in range(self.services):
            yield _SERVICE.format(service, service >> 16, service >> 8 & 255, service & 255)
            for route in range(self.routes):
                yield _ROUTE.format(service, route, (service + 1) % self.services)

    def _write_pods(self, service: int) -> None:
        file, parts = self.folder / f"pods-{service}.yaml", []
        for number in range(self.pods):
            pod = service * self.pods + number
            is_ready = pod not in self.waiting
            parts.append(_POD.format(service, number, pod >> 16, pod >> 8 & 255, pod & 255, is_ready))
        file.with_suffix(".new").write_text("".join(parts))
        file.with_suffix(".new").replace(file)


class _Waypoint:
    """What follows a configuration, and what it is followed for, without the ports."""

    def __init__(self, folder: Path) -> None:
        settings, nowhere = Settings(), Path("/nonexistent")
        certificate = OwnCertificate(
            FileStore(nowhere, nowhere, nowhere), Identity("cluster.local", "default", "waypoint")
        )
        self._worker = assemble(Parts(settings, certificate))
        self.holder, self._tasks = self._worker.holder, self._worker.tasks
        self.following = Following(
            FolderSource([folder]),
            Pipeline(("default", "waypoint"), settings),
            put_in_force=self._worker.put_in_force,
            readiness=Readiness({"configuration"}),
            metrics=self._worker.metrics,
        )

    def follow(self) -> None:
        self._tasks.keep("following the configuration", self.following.watch)
        self._tasks.keep("analyzing the configuration", self.following.analyze)

    async def close(self) -> None:
        await self._worker.close()


class _Beats:
    """How long this process holds its event loop: what a beat is late, but for the time that others have the machine's
    cores. For no longer than this process has used them meanwhile can it have held the loop."""

    def __init__(self) -> None:
        self.late: list[float] = []

    async def run(self) -> None:
        while True:
            before, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(_BEAT_SECONDS)
            late = time.perf_counter() - before - _BEAT_SECONDS
            self.late.append(min(late, time.process_time() - cpu))

    def figures(self) -> dict[str, float]:
        its = sorted(self.late)
        self.late = []
        return {"p99 ms": _ms(its[len(its) * 99 // 100]), "worst ms": _ms(its[-1])}


async def _profile(mesh: _Mesh) -> None:
    """One change at a time, all in this thread, so that the profile has everything but the analysis."""
    waypoint = _Waypoint(mesh.folder)
    await waypoint.following.begin()
    profile, cpu = cProfile.Profile(), time.process_time()
    for pod in range(_PROFILED):
        mesh.flip(pod * 7)
        await waypoint.following.begin()
    print(f"a change: {_ms((time.process_time() - cpu) / _PROFILED)} ms of CPU without the profile")
    profile.enable()
    for pod in range(_PROFILED):
        mesh.flip(pod * 7 + 1)
        await waypoint.following.begin()
    profile.disable()
    pstats.Stats(profile).sort_stats("cumulative").print_stats(_LINES)
    await waypoint.close()


async def _churn(mesh: _Mesh, rate: float, seconds: float) -> dict[str, dict[str, float]]:
    beats = _Beats()
    beating = asyncio.create_task(beats.run())
    cpu = time.process_time()
    await asyncio.sleep(_CALM_SECONDS)
    measuring, control = (time.process_time() - cpu) / _CALM_SECONDS, beats.figures()
    waypoint = _Waypoint(mesh.folder)
    await waypoint.following.begin()
    waypoint.follow()
    # each pod once, and all are ready before
    pods = random.Random(1).sample(range(mesh.services * mesh.pods), round(rate * seconds))
    waiting, live = pods[::-1], dict[int, float]()

    def see(snapshot: Snapshot) -> None:
        seen = [pod for pod in waiting[-_WINDOW:] if not mesh.is_ready(pod, snapshot)]
        live.update(dict.fromkeys(seen, time.perf_counter()))
        waiting[-_WINDOW:] = [pod for pod in waiting[-_WINDOW:] if pod not in live]

    await asyncio.sleep(_CALM_SECONDS)
    beats.late = []
    cpu = time.process_time()
    await asyncio.sleep(_CALM_SECONDS)
    idle, calm = (time.process_time() - cpu) / _CALM_SECONDS, beats.figures()
    waypoint.holder.subscribe(see)
    log = mesh.folder.parent / "changes.log"
    writer = multiprocessing.get_context("spawn").Process(target=_change, args=(mesh, pods, rate, log))
    writer.start()
    while not log.exists():  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0.01)
    beats.late = []
    cpu, began = time.process_time(), time.perf_counter()
    while writer.is_alive():  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    spent, took = time.process_time() - cpu, time.perf_counter() - began
    held = beats.figures()
    beating.cancel()
    for _ in range(100):
        if not waiting:
            break
        await asyncio.sleep(0.1)
    await waypoint.close()
    changed = {int(pod): float(at) for pod, at in map(str.split, log.read_text().splitlines())}
    delays = sorted(at - changed[pod] for pod, at in live.items())
    return {
        "without a waypoint": {"CPU %": round(measuring * 100, 1), **control},
        "idle": {"CPU %": round((idle - measuring) * 100, 1), **calm},
        "changing": {
            "changes": len(delays),
            "a second": round(len(changed) / took, 1),
            "never live": len(waiting),
            "CPU %": round((spent / took - measuring) * 100, 1),
            "live after, median ms": _ms(statistics.median(delays)),
            "live after, p99 ms": _ms(delays[len(delays) * 99 // 100]),
            "held, p99 ms": held["p99 ms"],
            "held, worst ms": held["worst ms"],
        },
    }


def _change(mesh: _Mesh, pods: list[int], rate: float, log: Path) -> None:
    """In a process of its own: change the pods one after the other, and log when."""
    with log.open("w") as file:
        began = time.perf_counter()
        for number, pod in enumerate(pods):
            time.sleep(max(began + number / rate - time.perf_counter(), 0.0))
            file.write(f"{pod} {time.perf_counter()}\n")
            mesh.flip(pod)


async def _start(mesh: _Mesh) -> dict[str, float]:
    waypoint = _Waypoint(mesh.folder)
    before, cpu = time.perf_counter(), time.process_time()
    await waypoint.following.begin()
    took, spent = time.perf_counter() - before, time.process_time() - cpu
    figures = {"s": round(took, 2), "CPU s": round(spent, 2), "RSS KiB": _rss_kib()}
    await waypoint.close()
    return figures


def _rss_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def _starts(services: int, routes: int, pods: int) -> dict[str, float]:
    """The same in processes of their own, and with twice the pods: so much more takes a pod."""
    figures: list[dict[str, float]] = []
    for many in (pods, 2 * pods):
        options = [f"--services={services}", f"--routes={routes}", f"--pods={many}", "--start", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "bench.churn", *options], capture_output=True, check=True, text=True
        )
        figures.append(json.loads(done.stdout)["a start"])
    one, other = figures
    one["KiB a pod"] = round((other["RSS KiB"] - one["RSS KiB"]) / (services * pods), 1)
    return one


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.churn", description="Endpoints that come and go.")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--routes", type=int, default=5, help="for each service")
    parser.add_argument("--pods", type=int, default=10, help="for each service")
    parser.add_argument("--rate", type=float, default=50.0, help="changes a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--start", action="store_true", help="say what a start takes")
    parser.add_argument("--profile", action="store_true", help="say where the time of one change goes")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="churn-") as folder:
        mesh = _Mesh(Path(folder, "mesh"), options.services, options.routes, options.pods)
        mesh.write()
        if options.profile:
            uvloop.run(_profile(mesh))
            return
        if options.start:
            show({"a start": uvloop.run(_start(mesh))}, as_json=options.json)
            return
        print(f"about {options.seconds + 3 * _CALM_SECONDS + 60:.0f} s …", file=sys.stderr)
        result = {
            "a start": _starts(options.services, options.routes, options.pods),
            "a start with a route for each service": _starts(options.services, 1, options.pods),
            **uvloop.run(_churn(mesh, options.rate, options.seconds)),
        }
    show(result, as_json=options.json)


if __name__ == "__main__":
    main()
