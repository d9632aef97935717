"""A ztunnel as a process that knows the mesh from a discovery server: whom it serves and lets in, and what it tells."""

import asyncio
import ipaddress
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from click.testing import CliRunner

from l4._proto import authorization_pb2 as policies
from l4._proto.workload_pb2 import HBONE, NetworkAddress, Port, PortList, Service, Workload
from l4.config.settings import Settings
from l4.hbone.connect import Authority, ConnectRequest
from l4.hbone.errors import TunnelError, TunnelRefused
from l4.hbone.pool import HbonePool
from l4.ztunnel.cli import cli
from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.discovery_server import ADDRESS, AUTHORIZATION, DiscoveryServer
from tests.kit.mesh import address
from tests.kit.node import echo

ALL = [policies.Rule()]
UID = "Kubernetes//Pod/default/server"


@dataclass
class World:
    """`pod` is the address of the pod `server`, whose application echoes at port 8080."""

    server: DiscoveryServer
    pki: MeshPki
    ip: str
    pod: str
    vip: str
    pool: HbonePool
    log: Path

    def workload(self, *policies: str, **more: Any) -> Workload:
        its = {
            "uid": UID,
            "name": "server",
            "namespace": "default",
            "addresses": [packed(self.pod)],
            "tunnel_protocol": HBONE,
            "service_account": "server",
            "node": "here",
            "services": {"default/echo.default.svc.cluster.local": PortList()},
            "authorization_policies": policies,
        }
        return Workload(**its | more)

    def service(self) -> Service:
        return Service(
            name="echo",
            namespace="default",
            hostname="echo.default.svc.cluster.local",
            addresses=[NetworkAddress(address=packed(self.vip))],
            ports=[Port(service_port=80, target_port=8080)],
        )

    async def ask(self) -> str:
        """What a client of the mesh gets: the echo, or the status of the refusal."""
        identity = self.pki.identity("default", "client")
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            tunnel = await self.pool.connect(
                lambda: protocol,
                certificate=self.pki.certificate(identity),
                identities=frozenset({self.pki.identity("default", "server")}),
                address=(self.pod, 15008),
                request=ConnectRequest(Authority.parse(f"{self.pod}:8080".encode())),
            )
            writer = asyncio.StreamWriter(tunnel, protocol, reader, asyncio.get_running_loop())
            writer.write(b"hello")
            writer.write_eof()
            return (await reader.read()).decode()
        except TunnelRefused as error:
            return str(error.status)
        except (TunnelError, OSError):
            return "nobody"

    async def answers(self, expected: str) -> None:
        await until(self.ask, lambda found: found == expected)

    async def get(self, port: int, path: str) -> tuple[int, Any]:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://{self.ip}:{port}/{path}") as answer,
            ):
                return answer.status, await (answer.json() if port == 15000 else answer.text())
        except aiohttp.ClientError:
            return 0, ""

    async def says(self, status: int, *sentences: str) -> None:
        """Wait until readiness has the status and contains the sentences."""
        await until(
            lambda: self.get(15021, "healthz/ready"),
            lambda found: found[0] == status and all(it in found[1] for it in sentences),
        )


async def until(look: Callable[[], Any], is_right: Callable[[Any], bool]) -> None:
    found = None
    try:
        async with asyncio.timeout(30):
            while not is_right(found := await look()):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"the last answer: {found}") from None


def packed(ip: str) -> bytes:
    return ipaddress.ip_address(ip).packed


@asynccontextmanager
async def running(folder: Path, **environment: str) -> AsyncIterator[World]:
    """The server is not serving yet."""
    server, pki = DiscoveryServer(folder), MeshPki(folder / "pki")
    pki.write(pki.identity("default", "server"))
    log = folder / "stderr.log"
    it = World(server, pki, address(), address(), address(), HbonePool(Settings()), log)
    flags = {
        "--discovery": server.address,
        "--discovery-root": server.pki.bundle_path,
        "--discovery-token": server.token_path,
        "--node": "here",
        "--certificates": pki.folder,
        "--trust-bundle": pki.bundle_path,
        "--metrics": f"{it.ip}:15020",
        "--readiness": f"{it.ip}:15021",
        "--admin": f"{it.ip}:15000",
        "--access-log": folder / "access.log",
    }
    command = (sys.executable, "-m", "l4.ztunnel.cli", "run", *(str(part) for flag in flags.items() for part in flag))
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "POD_NAMESPACE": "istio-system",
        "DRAIN_SECONDS": "1",
    } | environment
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=errors)
    app = await asyncio.start_server(echo, it.pod, 8080)
    try:
        yield it
    finally:
        await it.pool.close()
        app.close()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0


def test_it_serves_the_pods_of_its_node_and_applies_what_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as it, it.server.serving():
            await it.server.put(it.workload(), it.service())
            await it.says(200)
            await it.answers("hello|end")

            await it.server.put(
                policies.Authorization(
                    name="p", namespace="default", scope=policies.WORKLOAD_SELECTOR, action=policies.DENY, rules=ALL
                )
            )
            await it.answers("hello|end")
            await it.server.put(it.workload("default/p"))
            await it.answers("401")
            await it.server.remove(AUTHORIZATION, "default/p")
            await it.answers("hello|end")

            status, dump = await it.get(15000, "config_dump")
            assert status == 200
            (workload,), (service,) = dump["workloads"], dump["services"]
            assert (workload["uid"], workload["protocol"]) == (UID, "HBONE")
            assert (service["vips"], list(service["endpoints"])) == ([f"/{it.vip}"], [UID])

            await it.server.remove(ADDRESS, UID)
            await it.answers("nobody")

            ids = {stream.of(ADDRESS)[0].node.id for stream in it.server.streams}
            assert ids == {"ztunnel~1.1.1.1~ztunnel.istio-system~istio-system.svc.cluster.local"}

    run(scenario(), 60)


def test_before_the_policies_have_come_it_is_not_ready_and_serves_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as it:
            it.server.held.add(AUTHORIZATION)
            await it.server.put(it.workload())
            async with it.server.serving():
                await until(_value(lambda: it.server.streams and len(it.server.stream.of(ADDRESS)) > 1), bool)
                assert await it.ask() == "nobody"
                await it.says(503)

                await it.server.respond_to_held()
                await it.says(200)
                await it.answers("hello|end")

    run(scenario(), 60)


def test_a_policy_that_cannot_be_understood_is_refused_and_denies(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as it, it.server.serving():
            await it.server.put_raw(AUTHORIZATION, {"default/p": b"\xff"})
            await it.server.put(it.workload())
            await it.says(503, "Authorization default/p", "its bytes are no istio.security.Authorization")
            await it.answers("401")
            assert it.server.stream.errors(AUTHORIZATION) == [
                "default/p: its bytes are no istio.security.Authorization"
            ]

            await it.server.put(policies.Authorization(name="p", namespace="default", action=policies.DENY))
            await it.says(200)
            await it.answers("hello|end")

    run(scenario(), 60)


def test_while_the_server_is_away_all_goes_on_and_then_only_the_difference_comes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as it:
            async with it.server.serving():
                await it.server.put(it.workload(), it.service())
                await it.says(200)
                await it.answers("hello|end")
            await it.says(200, "is not available", "what was known stays in force")
            await it.answers("hello|end")
            _, metrics = await it.get(15020, "metrics")
            assert "pywaypoint_config_source_silent_seconds" in metrics

            await it.server.remove(ADDRESS, "default/echo.default.svc.cluster.local")
            async with it.server.serving():
                await until(lambda: it.get(15000, "config_dump"), lambda found: found[1] and not found[1]["services"])
                first = it.server.stream.of(ADDRESS)[0]
                assert sorted(first.initial_resource_versions) == [UID, "default/echo.default.svc.cluster.local"]
                await it.answers("hello|end")
                await until(lambda: it.get(15021, "healthz/ready"), lambda found: "not available" not in found[1])

    run(scenario(), 60)


def test_an_odd_workload_is_told_and_keeps_nothing_from_being_ready(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as it:
            await it.server.put_raw(ADDRESS, {"odd": b"\xff"})
            await it.server.put(it.workload())
            async with it.server.serving():
                await it.says(200)
                await it.answers("hello|end")

            assert "Address odd" in it.log.read_text()
            assert it.server.streams[0].errors() == ["odd: its bytes are no istio.workload.Address"]

    run(scenario(), 60)


def test_a_resource_that_is_not_carried_out_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as it, it.server.serving():
            await it.server.put(it.workload(), it.workload(uid="x", node="there", network="far"))
            await it.says(200)
            await it.answers("hello|end")

            assert "Network far" in it.log.read_text()

    run(scenario(), 60)


def test_it_is_one_source_or_another(tmp_path: Path) -> None:
    files = ["--certificates", str(tmp_path), "--trust-bundle", str(tmp_path)]
    for other in (["--resources", str(tmp_path)], ["--kubernetes"]):
        result = CliRunner().invoke(cli, ["run", "--node", "n", "--discovery", "istiod:15012", *other, *files])

        assert result.exit_code == 2
        assert "--discovery takes the place of --resources and --kubernetes: give one of them" in result.output


def _value(look: Callable[[], Any]) -> Callable[[], Any]:
    async def value() -> Any:
        return look()

    return value
