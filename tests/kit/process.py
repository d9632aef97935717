"""The waypoint as a separate process, started as an operator starts it, with a client and room for applications."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import aiohttp

from l4.config.settings import Settings
from l4.hbone.connect import Authority, ConnectRequest
from l4.hbone.pool import HbonePool
from tests.kit.certificates import MeshPki
from tests.kit.mesh import address, manifests

_START_SECONDS = 20.0


@dataclass
class WaypointProcess:
    """`authority` leads to an application that listens on `pod`:9080, by plain TCP."""

    process: asyncio.subprocess.Process
    pki: MeshPki
    ip: str
    pod: str
    authority: str
    pool: HbonePool

    @property
    def rss(self) -> int:
        """Bytes."""
        return self._memory("VmRSS")

    @property
    def peak_rss(self) -> int:
        """The peak since the last `forget_peak`, in bytes."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    async def refusals(self) -> dict[str, int]:
        """Return the number of refusals so far, by reason."""
        text = await self.metrics()
        return {reason: int(count) for reason, count in re.findall(r'refused_total{reason="(\w+)"} (\d+)', text)}

    async def metrics(self) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.ip}:15020/stats/prometheus") as answer,
        ):
            return await answer.text()

    async def config_dump(self) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.ip}:15000/config_dump") as answer,
        ):
            return dict(await answer.json())

    async def readiness(self) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.ip}:15021/healthz/ready") as answer:
            return answer.status, await answer.text()

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Return a tunnel to the application."""
        identity = self.pki.identity("default", "client")
        return await self.pool.connect(
            lambda: protocol,
            certificate=self.pki.certificate(identity),
            identities=frozenset({self.pki.identity("default", "waypoint")}),
            address=(self.ip, 15008),
            request=ConnectRequest(Authority.parse(self.authority.encode())),
        )

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a tunnel to the application, as streams."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await self.connect(protocol)
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) << 10
        raise AssertionError("the waypoint has ended")


def of_files(manifests: Path) -> Iterable[str]:
    return ("--resources", str(manifests))


@asynccontextmanager
async def waypoint_process(
    folder: Path,
    *,
    port: str = "http",
    log: IO[bytes] | int | None = None,
    nofile: int | None = None,
    soft_nofile: int | None = None,
    out: int | None = None,
    more: Iterable[Path] = (),
    gateway: str = "default/waypoint",
    prefix: Iterable[str] = (),
    program: str = "waypoint.cli",
    ready: int = 200,
    text: str | None = None,
    gateway_status: str | None = None,
    source: Callable[[Path], Iterable[str]] = of_files,
    **environment: str,
) -> AsyncIterator[WaypointProcess]:
    """`port` is the name of the service's port; `log` takes what the process says; `nofile` is how many file
    descriptors it may have, `soft_nofile` how many to begin with; the access log goes to a file, or to the
    descriptor `out`; `more` are further resources; the `prefix` comes before the command; `program` is the module
    that is run. Begins when readiness answers `ready`. `text` are other manifests than the usual ones, in which the
    Gateway has its address for a status, or `gateway_status` in its place. `source` returns the flags
    for the file of the manifests. When the block ends, the process is told
    to, and must end in order."""
    ip, vip, pod = address(), address(), address()
    usual = manifests(waypoint=ip, vip=vip, pods={"app-1": pod}).replace("{name: http, port", f"{{name: {port}, port")
    if gateway_status is not None:
        usual = re.sub(r"status: {addresses: .*\n", gateway_status, usual)
    usual = usual.replace("ambient.istio.io/redirection: enabled", "")
    (folder / "mesh.yaml").write_text(usual if text is None else text)
    pki = MeshPki(folder / "pki")
    pki.certificate(pki.identity("default", "client"))
    chain = pki.write(pki.identity("default", "waypoint"))
    flags = {
        "--gateway": gateway,
        "--certificate": chain,
        "--private-key": chain.with_suffix(".key"),
        "--trust-bundle": pki.bundle_path,
        "--listen": f"{ip}:15008",
        "--metrics": f"{ip}:15020",
        "--readiness": f"{ip}:15021",
        "--admin": f"{ip}:15000",
        "--access-log": folder / "access.log" if out is None else "-",
    }
    arguments = [*source(folder / "mesh.yaml"), *(str(part) for flag in flags.items() for part in flag)]
    arguments += [part for path in more for part in ("--resources", str(path))]
    environment = {"PYTHONPATH": ":".join(sys.path), "DRAIN_DELAY_SECONDS": "0", **environment}
    limits = (f"ulimit -n {nofile}" if nofile else "true", f"ulimit -S -n {soft_nofile}" if soft_nofile else "true")
    limited = ("sh", "-c", f'{" && ".join(limits)} && exec "$@"', "sh")
    command = (*limited, *prefix, sys.executable, "-m", program, "run", *arguments)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=out, stderr=log)
    pool = HbonePool(Settings())
    try:
        await _answers(f"http://{ip}:15021/healthz/ready", ready)
        yield WaypointProcess(process, pki, ip, pod, f"{vip}:9080", pool)
    finally:
        await pool.close()
        if process.returncode is None:
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def _answers(url: str, status: int) -> None:
    async with asyncio.timeout(_START_SECONDS), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == status:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
