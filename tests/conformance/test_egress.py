"""ServiceEntries behind a waypoint: static addresses, names that move, TLS that is begun here, and whom it trusts."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from l4.config.settings import Settings
from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.dns import NameServer, name_server
from tests.kit.mesh import Mesh, address, manifests, mesh, settled, with_settings
from tests.kit.origin import Origin, answering, origin

HOST = "api.example.com"


def service_entry(vip: str, **spec: Any) -> dict[str, Any]:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 9080}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "api"},
        "spec": {"hosts": [HOST], "addresses": [vip], "ports": ports, **spec},
    }


def destination_rule(**tls: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "api"},
        "spec": {"host": HOST, "trafficPolicy": {"tls": tls}},
    }


@dataclass
class Egress:
    mesh: Mesh
    vip: str
    text: str

    async def get(self) -> bytes:
        return await self.mesh.get(f"{self.vip}:80")

    async def status(self) -> int:
        return int((await self.get()).split(b" ", 2)[1])


@asynccontextmanager
async def _egress(
    folder: Path, *, spec: dict[str, Any], more: tuple[dict[str, Any], ...] = (), settings: Settings | None = None
) -> AsyncIterator[Egress]:
    waypoint, vip = address(), address()
    objects = (service_entry(vip, **spec), *more)
    text = manifests(waypoint=waypoint, vip=address(), pods={}, more="\n---\n".join(map(yaml.safe_dump, objects)))
    async with mesh(folder, text, waypoint, settings) as it:
        yield Egress(it, vip, text)


def test_static_endpoints_are_reached_in_plain_tcp(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = address(), address()
        spec = {"resolution": "STATIC", "endpoints": [{"address": one}, {"address": two, "ports": {"http": 9081}}]}
        async with (
            origin(one, answering(b"one")) as first,
            origin(two, answering(b"two"), port=9081) as second,
            _egress(tmp_path, spec=spec) as it,
        ):
            for _ in range(40):
                assert await it.status() == 200

            assert first.heads
            assert second.heads
            assert first.heads[0].startswith(b"GET / HTTP/1.1\r\nhost: app\r\n")

    run(scenario())


_TUNNEL = {"networking.istio.io/tunnel": "http"}


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("where", ["metadata", "spec", "annotation", "entry", "endpoint"])
def test_who_takes_tunnels_is_never_called_in_plain_tcp(tmp_path: Path, where: str, is_named: bool) -> None:
    async def scenario() -> None:
        ip = address()
        to = "vm.example.com" if is_named else ip
        spec: dict[str, Any] = {"resolution": "DNS", "workloadSelector": {"labels": {"app": "vm"}}}
        vm: dict[str, Any] = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": "vm", "labels": {"app": "vm"}},
            "spec": {"address": to, "ports": {"http": 9080}, "labels": {}},
        }
        entry = service_entry(vip := address(), **spec)
        match where:
            case "metadata":
                vm["metadata"]["labels"] |= _TUNNEL
            case "spec":
                vm["spec"]["labels"] |= _TUNNEL
            case "annotation":
                vm["metadata"]["annotations"] = {"ambient.istio.io/redirection": "enabled"}
            case _:
                labels = _TUNNEL if where == "endpoint" else {}
                entry = service_entry(vip, resolution="DNS", endpoints=[{"address": to, "labels": labels}])
                entry["metadata"]["labels"] = _TUNNEL if where == "entry" else {}
        async with name_server() as server, origin(ip, answering(b"plain")) as plain:
            server.answers = {"vm.example.com": [ip]}
            settings = with_settings(dns_servers=server.at, dns_min_seconds=0.02)
            waypoint = address()
            objects = "\n---\n".join(map(yaml.safe_dump, (entry, vm)))
            text = manifests(waypoint=waypoint, vip=address(), pods={}, more=objects)
            async with mesh(tmp_path, text, waypoint, settings) as it:
                egress = Egress(it, vip, text)
                await settled(lambda: bool(_endpoints(egress)))

                assert await egress.status() == 503
                assert plain.heads == []

    run(scenario())


def test_the_tunnel_may_name_the_host(tmp_path: Path) -> None:
    async def scenario() -> None:
        ip = address()
        async with (
            origin(ip, answering(b"one")),
            _egress(tmp_path, spec={"resolution": "STATIC", "endpoints": [{"address": ip}]}) as it,
        ):
            assert (await it.mesh.get(f"{HOST}:80")).endswith(b"one")

    run(scenario())


def test_without_resolution_a_connection_goes_on_to_the_address_that_was_called(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _egress(tmp_path, spec={"resolution": "NONE"}) as it, origin(it.vip, answering(b"itself"), port=80):
            assert (await it.get()).endswith(b"itself")

    run(scenario())


def test_a_route_leads_a_service_out_of_the_mesh(tmp_path: Path) -> None:
    async def scenario() -> None:
        ip, waypoint, vip = address(), address(), address()
        route = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "out"},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": "app"}],
                "rules": [
                    {"backendRefs": [{"group": "networking.istio.io", "kind": "Hostname", "name": HOST, "port": 80}]}
                ],
            },
        }
        entry = service_entry(address(), resolution="STATIC", endpoints=[{"address": ip}])
        more = "\n---\n".join(map(yaml.safe_dump, (entry, route)))
        text = manifests(waypoint=waypoint, vip=vip, pods={}, more=more)
        async with origin(ip, answering(b"outside")), mesh(tmp_path, text, waypoint) as it:
            assert (await it.get(f"{vip}:9080")).endswith(b"outside")

    run(scenario())


@asynccontextmanager
async def _named(folder: Path, *names: str, **settings: Any) -> AsyncIterator[tuple[Egress, NameServer, list[Origin]]]:
    """A ServiceEntry that is looked up, and an origin at each of two addresses."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(name_server())
        ips = [address(), address()]
        origins = [await stack.enter_async_context(origin(ip, answering(ip.encode()))) for ip in ips]
        server.answers = {name: [ips[0]] for name in names or (HOST,)}
        changes = {"dns_servers": server.at, "dns_min_seconds": 0.02, "dns_timeout_seconds": 0.2, **settings}
        spec = {"resolution": "DNS", "endpoints": [{"address": name} for name in names]}
        it = await stack.enter_async_context(_egress(folder, spec=spec, settings=with_settings(**changes)))
        await settled(lambda: bool(_endpoints(it)))
        server.answers["second"] = [ips[1]]
        yield it, server, origins


def _endpoints(it: Egress) -> list[str]:
    snapshot = it.mesh.holder.current
    return [live.endpoint.ip for name in snapshot.clusters if HOST in name for live in it.mesh.clusters[name].endpoints]


@pytest.mark.parametrize("names", [(), ("backend.example.com",)])
def test_a_name_is_looked_up_and_followed_when_it_moves(tmp_path: Path, names: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with _named(tmp_path, *names) as (it, server, origins):
            assert await it.status() == 200
            assert len(origins[0].heads) == 1

            second = server.answers["second"]
            for name in names or (HOST,):
                server.answers[name] = second
            await settled(lambda: _endpoints(it) == second)

            assert await it.status() == 200
            assert len(origins[1].heads) == 1

    run(scenario())


def test_while_the_name_server_is_away_its_last_answer_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _named(tmp_path) as (it, server, _):
            server.is_away = True
            asked = server.queries
            await settled(lambda: server.queries > asked + 4)

            assert await it.status() == 200

    run(scenario())


def test_hundreds_of_names_take_few_file_descriptors(tmp_path: Path) -> None:
    async def scenario() -> None:
        names = [f"backend-{number}.example.com" for number in range(200)]
        async with _named(tmp_path, *names, dns_timeout_seconds=0.1) as (_, server, _):
            server.is_away = True
            await settled(lambda: server.queries > 500)
            most = 0
            for _ in range(50):
                most = max(most, sum("socket" in _link(fd) for fd in os.listdir("/proc/self/fd")))
                await asyncio.sleep(0.01)

            assert most < 100

    run(scenario())


def _link(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def test_an_answer_that_is_too_old_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _named(tmp_path, dns_stale_seconds=0.1) as (it, server, _):
            del server.answers[HOST]
            await settled(lambda: _endpoints(it) == [])

            assert await it.status() == 503

    run(scenario())


@asynccontextmanager
async def _tls(folder: Path, names: list[str], **tls: Any) -> AsyncIterator[tuple[Egress, list[str]]]:
    """An origin that wants TLS, with a certificate for `names`; the server names that it was asked for."""
    ip, asked = address(), []
    outside = MeshPki(folder / "outside")
    pair = outside.leaf(dns=names)
    (folder / "server.pem").write_bytes(pair.chain_pem + pair.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    context.sni_callback = lambda sock, name, ctx: asked.append(name)
    handler = answering(b"secret")
    server = await asyncio.start_server(handler, ip, 9080, ssl=context)  # type: ignore[arg-type]
    rule = destination_rule(**{"caCertificates": str(outside.bundle_path), **tls})
    spec = {"resolution": "STATIC", "endpoints": [{"address": ip}]}
    try:
        async with _egress(folder, spec=spec, more=(rule,)) as it:
            yield it, asked
    finally:
        server.close()


@pytest.mark.parametrize(
    ("names", "tls", "status"),
    [
        ([HOST], {"mode": "SIMPLE"}, 200),
        (["other.example.com"], {"mode": "SIMPLE"}, 503),
        (["other.example.com"], {"mode": "SIMPLE", "sni": "other.example.com"}, 200),
        (["other.example.com"], {"mode": "SIMPLE", "subjectAltNames": ["other.example.com", "x"]}, 200),
        ([HOST], {"mode": "SIMPLE", "subjectAltNames": ["other.example.com"]}, 503),
        ([HOST], {"mode": "SIMPLE", "caCertificates": ""}, 503),
        ([HOST], {"mode": "SIMPLE", "caCertificates": "/nowhere.pem"}, 503),
        (["other.example.com"], {"mode": "SIMPLE", "caCertificates": "", "insecureSkipVerify": True}, 200),
        ([HOST], {"mode": "SIMPLE", "caCertificates": "", "credentialName": "secret"}, 503),
    ],
)
def test_tls_is_begun_with_whom_the_certificate_names(
    tmp_path: Path, names: list[str], tls: dict[str, Any], status: int
) -> None:
    async def scenario() -> None:
        async with _tls(tmp_path, names, **tls) as (it, asked):
            assert await it.status() == status
            if status == 200:
                assert asked == [tls.get("sni", HOST)]
            else:
                await settled(lambda: " UF " in it.mesh.access_log or "URX,UF" in it.mesh.access_log)

    run(scenario())
