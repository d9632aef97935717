"""Real Envoy as the peer of our programs, in front and behind: HBONE as another implementation speaks it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from l4.http2.engines import Engine
from tests.kit import envoy
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled, with_settings
from tests.kit.origin import answering, origin

pytestmark = [pytest.mark.envoy, pytest.mark.parametrize("engine", list(Engine))]


def certificate(it: Mesh, account: str) -> envoy.Certificate:
    chain = it.pki.folder / f"default.{account}.pem"
    return envoy.Certificate(chain, chain.with_suffix(".key"), it.pki.bundle_path)


async def http(ip: str, port: int, count: int = 1, body: bytes = b"") -> list[tuple[int, bytes]]:
    """Requests on one connection, one after the other: status and body of each."""
    reader, writer = await asyncio.open_connection(ip, port)
    answers = []
    for _ in range(count):
        writer.write(b"POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        answers.append((int(head.split(b" ")[1]), await reader.readexactly(length)))
    writer.close()
    return answers


@asynccontextmanager
async def running(stack: ExitStack, config: envoy.Config, ready: envoy.Address) -> AsyncIterator[None]:
    """An Envoy beside the loop, which goes on serving while the process comes up."""
    await asyncio.to_thread(stack.enter_context, envoy.run(config, ready=ready))
    yield


def test_envoy_in_front_of_our_waypoint_and_our_ztunnel_behind_it(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        waypoint, vip, pod = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
        entry = envoy.free_address()
        with ExitStack() as stack:
            async with (
                origin(pod, answering(b"x" * 1000)) as seen,
                mesh(tmp_path, text, waypoint, with_settings(http2_engine=engine.value)) as it,
            ):
                source = envoy.source(
                    certificate(it, "client"), listen=entry, to=(waypoint, 15008), authority=f"{vip}:9080"
                )
                async with running(stack, source, entry):
                    answers = await http(*entry, count=5, body=b"y" * 100_000)
                    await settled(lambda: it.access_log.count("POST /a") == 5)
                stack.close()
                await settled(lambda: it.server.connection_count == 0)

        assert answers == [(200, b"x" * 1000)] * 5
        assert len(seen.heads) == 5
        assert "spiffe://cluster.local/ns/default/sa/waypoint" in it.access_log  # the ztunnel's caller

    run(scenario(), 60)


def test_envoy_behind_our_waypoint(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        waypoint, vip, pod, app = address(), address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod}).replace("nodeName: node", "nodeName: other")
        with ExitStack() as stack:
            async with (
                origin(app, answering(b"z" * 500)) as seen,
                mesh(tmp_path, text, waypoint, with_settings(http2_engine=engine.value)) as it,
            ):
                dest = envoy.dest(certificate(it, "app"), listen=(pod, 15008), app=(app, 9080))
                async with running(stack, dest, (pod, 15008)):
                    reader, writer = await it.tunnel(f"{vip}:9080")
                    for _ in range(5):
                        writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000))
                        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                        assert await reader.readexactly(500) == b"z" * 500
                    writer.close()
                    await settled(lambda: it.path.exchanges == 0)

        assert len(seen.heads) == 5

    run(scenario(), 60)


def test_envoy_in_front_of_our_ztunnel(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        waypoint, vip, pod = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
        entry = envoy.free_address()
        with ExitStack() as stack:
            async with (
                origin(pod, answering(b"direct")),
                mesh(tmp_path, text, waypoint, with_settings(http2_engine=engine.value)) as it,
            ):
                source = envoy.source(certificate(it, "client"), listen=entry, to=(pod, 15008), authority=f"{pod}:9080")
                async with running(stack, source, entry):
                    answers = await http(*entry, count=3)
                stack.close()
                await settled(lambda: 'src.identity="spiffe://cluster.local/ns/default/sa/client"' in it.access_log)

        assert answers == [(200, b"direct")] * 3

    run(scenario(), 60)


def test_envoy_behind_our_ztunnel(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        waypoint, vip, pod, app, remote, view = (address() for _ in range(6))
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": remote})
        text = text.replace("nodeName: node", "nodeName: other").replace("{istio.io/use-waypoint: waypoint}", "{}")
        text += f"""
---
apiVersion: v1
kind: Pod
metadata:
  name: client-1
  annotations: {{ambient.istio.io/redirection: enabled, pywaypoint.dev/outbound-capture: "{view}:80={vip}:9080"}}
spec: {{serviceAccountName: client, nodeName: node}}
status: {{podIP: {pod}}}
"""
        with ExitStack() as stack:
            async with (
                origin(app, answering(b"far away")),
                mesh(tmp_path, text, waypoint, with_settings(http2_engine=engine.value)) as it,
            ):
                dest = envoy.dest(certificate(it, "app"), listen=(remote, 15008), app=(app, 9080))
                async with running(stack, dest, (remote, 15008)):
                    answers = await http(view, 80, count=3, body=b"y" * 50_000)
                await settled(lambda: f'dst.hbone_addr="{remote}:9080"' in it.access_log)

        assert answers == [(200, b"far away")] * 3
        assert 'direction="outbound"' in it.access_log

    run(scenario(), 60)
