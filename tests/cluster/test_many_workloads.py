"""istiod tells of many workloads that change all the time: what our ztunnels need, and how soon a change counts.

Most workloads are WorkloadEntries, without anybody behind them. A Service's port is moved between one at which its
pod answers and one at which it does not, and a client in another pod asks all the time.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from random import Random, uniform
from typing import Any

import pytest

from l4._proto.xds_pb2 import DeltaDiscoveryResponse
from l4.kubernetes import kubeconfig
from l4.kubernetes.client import ApiClient, ResourceType
from tests.cluster.istio_mesh import NAME, Mesh, Program, istio_mesh, service, started
from tests.cluster.waiting import until
from tests.kit.timed import HTTP_PORT

WORKLOADS = int(os.environ.get("WORKLOADS", "10000"))
SERVICES = 100
RATE = float(os.environ.get("RATE", "50"))
SECONDS = float(os.environ.get("SECONDS", "30"))
_FIRST = int(IPv4Address("10.128.0.0"))
_SEEN_SECONDS = 30.0
_ENTRIES = ResourceType("networking.istio.io", "v1", "workloadentries", "WorkloadEntry")
_SERVICES = ResourceType("", "v1", "services", "Service")
_ASKER = """
import socket, sys, time
while True:
    try:
        with socket.create_connection((sys.argv[1], 80), timeout=5) as sock:
            sock.sendall(b"GET /0 HTTP/1.1\\r\\nHost: app\\r\\n\\r\\n")
            says = "yes" if sock.recv(100) else "no"
    except OSError:
        says = "no"
    print(time.time(), says, flush=True)
    time.sleep(0.02)
"""

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(560)]


def _entry(number: int) -> dict[str, Any]:
    labels = {"app": f"many-{number % SERVICES}"}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": f"w{number}", "namespace": NAME, "labels": labels},
        "spec": {"address": str(IPv4Address(_FIRST + number)), "labels": labels, "serviceAccount": "many"},
    }


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    """A few at a time."""
    rest = iter(calls)

    async def work() -> None:
        for it in rest:
            await it

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(work())


class Changes:
    """Of the objects, while `made` counts those of workloads. `lags` are the seconds until a move of the Service was
    seen by its client, and `ours` those since istiod told it."""

    def __init__(self, mesh: Mesh, answers: Path) -> None:
        self._mesh = mesh
        self._answers = answers
        self._told = 0.0
        self.made = 0
        self.lags: list[float] = []
        self.ours: list[float] = []

    async def fill(self) -> None:
        async with self._client() as client:
            await _all(client.create(_ENTRIES.path(NAME), _entry(number)) for number in range(WORKLOADS))

    async def go_on(self) -> None:
        async with self._client() as client:
            changing = asyncio.ensure_future(self._change(client))
            while not changing.done():
                await self._move(client)
                await asyncio.sleep(uniform(0, 2))
            await changing

    def saw(self, response: DeltaDiscoveryResponse) -> None:
        if any(it.name == f"{NAME}/switch.{NAME}.svc.cluster.local" for it in response.resources):
            self._told = self._told or time.time()

    async def _change(self, client: ApiClient) -> None:
        loop, roll = asyncio.get_running_loop(), Random(0)
        began = loop.time()
        for number in count():
            await asyncio.sleep(max(0.0, began + number / RATE - loop.time()))
            if loop.time() - began >= SECONDS:
                return
            name, address = f"w{roll.randrange(WORKLOADS)}", str(IPv4Address(_FIRST + WORKLOADS + number))
            await client.merge(_ENTRIES.path(NAME, name), {"spec": {"address": address}})
            self.made += 1

    async def _move(self, client: ApiClient) -> None:
        port, says = ((9, "no"), (HTTP_PORT, "yes"))[len(self.lags) % 2]
        self._told, began = 0.0, time.time()
        ports = [{"name": "http", "port": 80, "targetPort": port}]
        await client.merge(_SERVICES.path(NAME, "switch"), {"spec": {"ports": ports}})
        async with asyncio.timeout(_SEEN_SECONDS):
            seen = None
            while seen is None:
                await asyncio.sleep(0.1)
                seen = self._seen(self._told, says) if self._told else None
        self.lags.append(seen - began)
        self.ours.append(seen - self._told)

    def _seen(self, began: float, says: str) -> float | None:
        """When the first answer of this kind after a time was given."""
        whole, _, _ = self._answers.read_text().rpartition("\n")
        answers = [it.split() for it in whole.splitlines()[-2000:]]
        return next((float(at) for at, said in answers if float(at) > began and said == says), None)

    def _client(self) -> "_Closing":
        return _Closing(ApiClient(kubeconfig.load(self._mesh.server.kubeconfig, "")))


class _Closing:
    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def __aenter__(self) -> ApiClient:
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


@contextmanager
def asking(mesh: Mesh, path: Path) -> Iterator[None]:
    """A client that asks the Service `switch` on new connections; its answers are in `path`."""
    command = [sys.executable, "-c", _ASKER, mesh.vip("switch")]
    with path.open("wb") as out:
        process = started(mesh.pods["client"], command, out, subprocess.DEVNULL, dict(os.environ))
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


def known(it: Program) -> int:
    return len(it.dump()["workloads"])


def test_many_workloads_that_change_all_the_time(tmp_path: Path) -> None:
    with istio_mesh(tmp_path) as mesh:
        changes = Changes(mesh, tmp_path / "asked")
        switch = service("switch", "server", {"http": 80})
        switch["spec"]["ports"][0]["targetPort"] = HTTP_PORT
        mesh.server.apply(switch, *(service(f"many-{it}", f"many-{it}", {"http": 80}) for it in range(SERVICES)))
        mesh.middleman.on_response = changes.saw

        with mesh.watched(f"{WORKLOADS} workloads are made") as filled:
            asyncio.run(changes.fill())
            until(lambda: all(known(it) >= WORKLOADS for it in mesh.ztunnels), 120)

        began = time.monotonic()
        late = mesh.ztunnel("node-a", mesh.gate.listen(), "--hbone-port=15998")
        try:
            until(late.is_ready)
            seconds, used = time.monotonic() - began, late.used()
            assert known(late) >= WORKLOADS
        finally:
            late.end()
        print(f"    another ztunnel is ready after {seconds:.1f} s, of which CPU {used.cpu:.1f} s, with {used.mib} MiB")

        with (
            mesh.watched(f"{RATE:g} of {WORKLOADS} workloads change per second") as seen,
            asking(mesh, tmp_path / "asked"),
        ):
            asyncio.run(changes.go_on())

    def words(its: list[float]) -> str:
        return f"p50 {1000 * statistics.median(its):.0f} ms, at most {1000 * max(its):.0f} ms"

    print(f"    {changes.made} changes; one of a Service is live after {words(changes.lags)}")
    print(f"    from istiod's response to the client's answer: {words(changes.ours)}")
    assert filled.failed == []
    assert seen.failed == []
    assert changes.made > 0.8 * RATE * SECONDS
    assert len(changes.lags) > SECONDS / 10
