"""Several replicas of one waypoint behind a node's ztunnel, each a process of its own, as a cluster has them: a rollout
starts a replica, waits until it is ready, and tells an old one to stop; a killed replica comes back at its address.

What the ztunnel knows of them it reads from the manifests, which follow with the delay of a control plane.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.kit.certificates import MeshPki
from tests.kit.load import Log, Request
from tests.kit.mesh import address, gateway
from tests.kit.timed import GRPC_PORT, HTTP_PORT, timed_application

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_ACCEPTS = " accepts HBONE on "
_NEWS_SECONDS = 1.0
"""Time in which a busy machine reports a closed connection; milliseconds on an idle one. A replica is away for longer,
so that requests to a dead replica are noticed."""
_MANIFESTS = """
---
apiVersion: v1
kind: Service
metadata: {{name: waypoint, labels: {{gateway.networking.k8s.io/gateway-name: waypoint}}}}
spec:
  clusterIP: {waypoint}
  ports: [{{name: hbone, port: 15008}}]
  selector: {{gateway.networking.k8s.io/gateway-name: waypoint}}
---
apiVersion: v1
kind: Service
metadata: {{name: app}}
spec:
  clusterIP: {vip}
  ports: [{{name: http, port: {http}}}, {{name: grpc, port: {grpc}}}]
  selector: {{app: app}}
---
apiVersion: v1
kind: Pod
metadata: {{name: app-1, labels: {{app: app}}}}
spec: {{serviceAccountName: app, nodeName: there}}
status: {{podIP: {app}, phase: Running}}
---
apiVersion: v1
kind: Pod
metadata:
  name: client
  annotations:
    ambient.istio.io/redirection: enabled
    pywaypoint.dev/outbound-capture: {seen}:{http}={vip}:{http}, {seen}:{grpc}={vip}:{grpc}
spec: {{serviceAccountName: client, nodeName: here}}
status: {{podIP: {client}, phase: Running}}
"""
_REPLICA = """
---
apiVersion: v1
kind: Pod
metadata: {{name: waypoint-{ip}, labels: {{gateway.networking.k8s.io/gateway-name: waypoint}}{more}}}
spec: {{serviceAccountName: waypoint, nodeName: there}}
status: {{podIP: {ip}, phase: Running}}
"""


@dataclass
class Replica:
    ip: str
    process: asyncio.subprocess.Process
    is_stopping: bool = False


@dataclass
class Fleet:
    """`seen` is the address of the Service for the client on this machine."""

    folder: Path
    pki: MeshPki
    text: str
    seen: str
    environment: dict[str, str]
    propagation_seconds: float
    replicas: list[Replica] = field(default_factory=list)
    launched: list[asyncio.subprocess.Process] = field(default_factory=list)
    killed_at: list[float] = field(default_factory=list)

    @property
    def http(self) -> tuple[str, int]:
        return self.seen, HTTP_PORT

    @property
    def grpc(self) -> tuple[str, int]:
        return self.seen, GRPC_PORT

    async def roll_out(self) -> None:
        """Replace every replica, one after the other, with one more replica meanwhile."""
        for old in list(self.replicas):
            self.replicas.append(await self._start(address()))
            self._publish()
            await asyncio.sleep(self.propagation_seconds)
            old.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(self.propagation_seconds)
            old.is_stopping = True
            self._publish()
            assert await asyncio.wait_for(old.process.wait(), _STOP_SECONDS) == 0
            self.replicas.remove(old)
            self._publish()

    async def hand_over(self, number: int) -> None:
        """Replace a replica by a new process on the same ports. Both listen for a while."""
        replica = self.replicas[number]
        log = self.folder / f"waypoint-{replica.ip}.log"
        before = log.read_text().count(_ACCEPTS)
        old, replica.process = replica.process, await self._launch(replica.ip)
        async with asyncio.timeout(_START_SECONDS):
            while log.read_text().count(_ACCEPTS) == before:
                assert replica.process.returncode is None, f"{replica.process.returncode}: {log.read_text()[-2000:]}"
                await asyncio.sleep(0.05)
        old.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(old.wait(), _STOP_SECONDS) == 0

    async def kill(self, number: int) -> None:
        """Kill a replica without notice, and start it again at the same address, without announcing either."""
        replica = self.replicas[number]
        self.killed_at.append(asyncio.get_running_loop().time())
        replica.process.send_signal(signal.SIGKILL)
        await replica.process.wait()
        await asyncio.sleep(self.propagation_seconds)
        replica.process = (await self._start(replica.ip)).process

    async def kill_worker(self, number: int) -> None:
        """Kill a worker of a replica without notice, and wait until another one serves in its place."""
        replica = self.replicas[number]
        before = workers(replica.process)
        self.killed_at.append(asyncio.get_running_loop().time())
        os.kill(before[0], signal.SIGKILL)
        async with asyncio.timeout(_START_SECONDS), aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"http://{replica.ip}:15000/status") as answer:
                    serving = (await answer.json())["workers"]
                if len(serving) == len(before) and before[0] not in workers(replica.process):
                    return
                await asyncio.sleep(0.05)

    def lost(self, log: Log) -> list[Request]:
        """Return the failed requests, except those active when a process was killed, or begun before that was known."""
        return [
            it for it in log.failed if not any(it.began < at + _NEWS_SECONDS and it.ended > at for at in self.killed_at)
        ]

    def last_to_know(self, log: Log) -> float:
        """Return how long after a death the last request began that failed because of it."""
        since = [it.began - at for it in log.failed for at in self.killed_at if it.ended > at]
        return max((seconds for seconds in since if seconds < _NEWS_SECONDS), default=0.0)

    async def _start(self, ip: str) -> Replica:
        process = await self._launch(ip)
        await ready(ip, process, self.folder / f"waypoint-{ip}.log")
        return Replica(ip, process)

    async def _launch(self, ip: str) -> asyncio.subprocess.Process:
        chain = self.pki.write(self.pki.identity("default", "waypoint"))
        flags: dict[str, object] = {
            "--gateway": "default/waypoint",
            "--certificate": chain,
            "--private-key": chain.with_suffix(".key"),
            "--listen": f"{ip}:15008",
            **self._shared(ip),
        }
        return await self._run("waypoint.cli", f"waypoint-{ip}", flags)

    async def start_ztunnel(self, ip: str) -> asyncio.subprocess.Process:
        self.pki.write(self.pki.identity("default", "client"))
        flags = {"--node": "here", "--certificates": self.pki.folder, **self._shared(ip)}
        process = await self._run("l4.ztunnel.cli", "ztunnel", flags)
        await ready(ip, process, self.folder / "ztunnel.log")
        return process

    def _shared(self, ip: str) -> dict[str, object]:
        return {
            "--resources": self.folder / "mesh.yaml",
            "--trust-bundle": self.pki.bundle_path,
            "--metrics": f"{ip}:15020",
            "--readiness": f"{ip}:15021",
            "--admin": f"{ip}:15000",
            "--access-log": self.folder / f"access-{ip}.log",
        }

    async def _run(self, module: str, name: str, flags: dict[str, Any]) -> asyncio.subprocess.Process:
        arguments = [str(part) for flag in flags.items() for part in flag]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, "run", *arguments, env=self.environment, stderr=log
            )
        self.launched.append(process)
        return process

    def _publish(self) -> None:
        text = self.text
        for replica in self.replicas:
            more = ', deletionTimestamp: "2026-01-01T00:00:00Z"' if replica.is_stopping else ""
            text += _REPLICA.format(ip=replica.ip, more=more)
        new = self.folder / "mesh.new"
        new.write_text(text)
        new.replace(self.folder / "mesh.yaml")


@asynccontextmanager
async def fleet(folder: Path, *, propagation_seconds: float = 0.5, **settings: str) -> AsyncIterator[Fleet]:
    """Run two replicas in front of a `timed_application`. `settings` apply to all processes."""
    app, client, seen, vip = address(), address(), address(), address()
    text = gateway("waypoint.default.svc.cluster.local", kind="Hostname") + _MANIFESTS.format(
        waypoint=address(),
        vip=vip,
        http=HTTP_PORT,
        grpc=GRPC_PORT,
        app=app,
        client=client,
        seen=seen,
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), **settings}
    it = Fleet(folder, MeshPki(folder / "pki"), text, seen, environment, propagation_seconds)
    it._publish()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(timed_application(app))
        try:
            it.replicas = [await it._start(address()) for _ in range(2)]
            it._publish()
            await it.start_ztunnel(client)
            yield it
        finally:
            for process in it.launched:
                if process.returncode is None:
                    process.kill()
                await process.wait()


def workers(process: asyncio.subprocess.Process) -> list[int]:
    """The worker processes of a waypoint."""
    return sorted(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


async def ready(ip: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until the program with these operator ports reports that it is ready."""
    said = "nothing"
    try:
        async with asyncio.timeout(_START_SECONDS), aiohttp.ClientSession() as session:
            while process.returncode is None:
                try:
                    async with session.get(f"http://{ip}:15021/healthz/ready") as answer:
                        if answer.status == 200:
                            return
                        said = await answer.text()
                except aiohttp.ClientError as error:
                    said = repr(error)
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    told = log.read_text()[-2000:]  # noqa: ASYNC240 - it is over
    raise AssertionError(f"{ip} did not become ready ({process.returncode}): {said}; {told}")
