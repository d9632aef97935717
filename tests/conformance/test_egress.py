"""ServiceEntries behind a waypoint: static addresses, changing DNS names, TLS origination and its trusted roots."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from l4.config.settings import Settings
from l4.hbone.errors import TunnelRefused, TunnelReset
from policies.attributes import ClusterName
from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.client_hello import client_hello
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


# -- those that have no endpoints of their own -------------------------------------------------------------------------

BELOW = "*.example.com"


@asynccontextmanager
async def _open(
    folder: Path, *objects: dict[str, Any], settings: Settings | None = None
) -> AsyncIterator[tuple[Mesh, NameServer]]:
    async with name_server() as server:
        changes = {"dns_servers": server.at, "dns_timeout_seconds": 1.0, "dns_min_seconds": 60.0}
        waypoint = address()
        more = "\n---\n".join(map(yaml.safe_dump, objects))
        text = manifests(waypoint=waypoint, vip=address(), pods={}, more=more)
        async with mesh(folder, text, waypoint, settings or with_settings(**changes)) as it:
            yield it, server


def entry_of_all(vip: str, **spec: Any) -> dict[str, Any]:
    return service_entry(vip, **{"hosts": [BELOW], "resolution": "DYNAMIC_DNS", **spec})


async def ask(it: Mesh, authority: str, host: str) -> tuple[int, bytes]:
    """Status and body of the answer to a request for a host."""
    reader, writer = await it.tunnel(authority)
    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


def test_dynamic_dns_follows_the_host_of_each_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        vip, ips = address(), [address(), address()]
        async with (
            origin(ips[0], answering(b"one")) as one,
            origin(ips[1], answering(b"two")),
            _open(tmp_path, entry_of_all(vip)) as (it, server),
        ):
            server.answers = {"one.example.com": [ips[0]], "two.example.com": [ips[1]]}

            assert await ask(it, f"{vip}:80", "one.example.com") == (200, b"one")
            assert await ask(it, f"{vip}:80", "TWO.example.com:80") == (200, b"two")
            assert await ask(it, "one.example.com:80", "one.example.com") == (200, b"one")
            asked = server.queries
            assert await ask(it, f"{vip}:80", "one.example.com") == (200, b"one")
            assert server.queries == asked  # the answer is kept
            assert len(one.heads) == 3
            await settled(lambda: "inbound-vip|80|http|*.example.com" in it.access_log)

    run(scenario())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.org", 404),
        ("example.com", 404),
        ("one.example.com.evil.org", 404),
        ("127.0.0.1", 404),
        ("nowhere.example.com", 503),
    ],
)
def test_dynamic_dns_looks_up_nothing_but_what_the_wildcard_takes(tmp_path: Path, host: str, status: int) -> None:
    async def scenario() -> None:
        vip, ip = address(), address()
        async with origin(ip, answering(b"one")) as one, _open(tmp_path, entry_of_all(vip)) as (it, server):
            server.answers = {"evil.org": [ip], "example.com": [ip], "one.example.com.evil.org": [ip]}

            assert (await ask(it, f"{vip}:80", host))[0] == status
            assert one.heads == []
            assert bool(server.queries) is (status == 503)

    run(scenario())


def test_a_name_server_that_is_away_holds_a_request_no_longer_than_a_look_up_takes(tmp_path: Path) -> None:
    async def scenario() -> None:
        vip = address()
        async with _open(tmp_path, entry_of_all(vip)) as (it, server):
            server.is_away = True

            async with asyncio.timeout(30):
                assert (await ask(it, f"{vip}:80", "one.example.com"))[0] == 503

    run(scenario())


def test_the_first_answer_of_a_name_server_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        ip, vip = address(), address()
        entry = service_entry(vip, resolution="DNS")
        async with origin(ip, answering(b"one")), _open(tmp_path, entry) as (it, server):
            server.answers = {HOST: [ip]}

            assert await ask(it, f"{vip}:80", HOST) == (200, b"one")

    run(scenario())


def test_tls_towards_a_wildcard_asks_for_the_host_of_the_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        ip, vip = address(), address()
        rule = destination_rule(mode="SIMPLE")
        rule["spec"]["host"] = BELOW
        names: list[bytes] = []

        async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            names.append(await reader.read(65536))
            writer.close()

        async with (
            await asyncio.start_server(listening, ip, 9080),
            _open(tmp_path, entry_of_all(vip), rule) as (it, server),
        ):
            server.answers = {"one.example.com": [ip]}

            assert (await ask(it, f"{vip}:80", "one.example.com"))[0] == 503
            assert names
            assert all(b"one.example.com" in hello for hello in names)

    run(scenario())


@pytest.mark.parametrize("is_wildcard", [False, True])
def test_tls_that_is_asked_for_does_not_wait_for_a_name_server(tmp_path: Path, is_wildcard: bool) -> None:
    async def scenario() -> None:
        ip, vip = address(), address()
        entry = entry_of_all(vip) if is_wildcard else service_entry(vip, hosts=["one.example.com"], resolution="DNS")
        rule = destination_rule(mode="SIMPLE")
        rule["spec"]["host"] = entry["spec"]["hosts"][0]
        async with origin(ip, answering(b"plain")) as plain, _open(tmp_path, entry) as (it, server):
            server.answers = {"one.example.com": [ip]}
            assert await ask(it, f"{vip}:80", "one.example.com") == (200, b"plain")
            server.is_away = True

            it.apply(f"{it.text}\n---\n{yaml.safe_dump(rule)}")

            cluster = it.clusters[ClusterName(f"inbound-vip|80|http|{rule['spec']['host']}")]
            endpoints = [live.endpoint for each in (cluster, *(cluster.branches or ())) for live in each.endpoints]
            assert [endpoint.ip for endpoint in endpoints] == [ip]
            assert endpoints[0].tls is not None
            assert len(plain.heads) == 1

    run(scenario())


def test_where_a_name_led_nobody_goes_any_more_when_it_is_no_longer_configured(tmp_path: Path) -> None:
    async def scenario() -> None:
        ips, vip = [address(), address()], address()
        entry = service_entry(vip, resolution="DNS")
        async with (
            origin(ips[0], answering(b"before")) as before,
            origin(ips[1], answering(b"after")),
            _open(tmp_path, entry) as (it, server),
        ):
            server.answers = {HOST: [ips[0]]}
            assert await ask(it, f"{vip}:80", HOST) == (200, b"before")
            static = service_entry(vip, resolution="STATIC", endpoints=[{"address": ips[1]}])

            it.apply(it.text.replace(yaml.safe_dump(entry), yaml.safe_dump(static)))

            for _ in range(10):
                assert await ask(it, f"{vip}:80", HOST) == (200, b"after")
            assert len(before.heads) == 1

    run(scenario())


def test_a_request_that_waits_for_a_name_outlives_a_change_of_configuration(tmp_path: Path) -> None:
    async def scenario() -> None:
        ip, vip = address(), address()
        entry = entry_of_all(vip)
        rule = destination_rule(mode="DISABLE")
        rule["spec"] |= {"host": BELOW, "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 7}}}}
        async with origin(ip, answering(b"one")), _open(tmp_path, entry) as (it, server):
            server.silent = {"one.example.com"}
            asked = asyncio.create_task(ask(it, f"{vip}:80", "one.example.com"))
            await settled(lambda: "one.example.com" in server.asked)

            it.apply(f"{it.text}\n---\n{yaml.safe_dump(rule)}")
            server.answers = {"one.example.com": [ip]}
            server.release()

            assert await asked == (200, b"one")

    run(scenario())


def test_names_that_clients_give_leave_room_for_the_configurations_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waypoint.upstream.clusters.lookups_at_once", lambda: 2)

    async def scenario() -> None:
        ips, vip, own = [address(), address()], address(), address()
        entry = service_entry(own, hosts=["api.example.org"], resolution="DNS")
        entry["metadata"]["name"] = "own"
        names = {f"a{number}.example.com" for number in range(20)}
        async with (
            name_server() as server,
            origin(ips[0], answering(b"before")),
            origin(ips[1], answering(b"after")),
            _open(
                tmp_path,
                entry_of_all(vip),
                entry,
                settings=with_settings(dns_servers=server.at, dns_timeout_seconds=1.0, dns_min_seconds=0.02),
            ) as (it, _),
        ):
            server.answers, server.silent = {"api.example.org": [ips[0]]}, names
            assert await ask(it, f"{own}:80", "api.example.org") == (200, b"before")
            asked = [asyncio.create_task(ask(it, f"{vip}:80", name)) for name in names]
            await settled(lambda: bool(server.asked & names))
            server.answers = {"api.example.org": [ips[1]]}
            cluster = it.clusters[ClusterName("inbound-vip|80|http|api.example.org")]
            await settled(lambda: [live.endpoint.ip for live in cluster.endpoints] == [ips[1]], 15)

            assert not names <= server.asked  # one after the other; those of the configuration go between
            assert {status for status, _ in await asyncio.gather(*asked)} == {503}

    run(scenario())


def test_a_route_leads_to_a_wildcard_by_the_host_of_the_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        vip, front, ip = address(), address(), address()
        ref = {"group": "networking.istio.io", "kind": "Hostname", "name": BELOW, "port": 80}
        parent = {"group": "networking.istio.io", "kind": "ServiceEntry", "name": "front"}
        route = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "out"},
            "spec": {"parentRefs": [parent], "rules": [{"backendRefs": [ref]}]},
        }
        before = service_entry(front, hosts=["front.example.org"], resolution="STATIC")
        before["metadata"]["name"] = "front"
        async with (
            origin(ip, answering(b"one")),
            _open(tmp_path, entry_of_all(vip), before, route) as (it, server),
        ):
            server.answers = {"one.example.com": [ip], "front.example.org": [ip]}

            assert await ask(it, f"{front}:80", "one.example.com") == (200, b"one")
            assert (await ask(it, f"{front}:80", "front.example.org"))[0] == 404

    run(scenario())


@pytest.mark.parametrize(
    ("name", "answer"), [("one.example.com", b"reached"), ("evil.org", b""), ("example.com", b""), (None, b"")]
)
def test_dynamic_dns_follows_the_server_name_of_tls(tmp_path: Path, name: str | None, answer: bytes) -> None:
    async def reached(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"reached")
        writer.close()

    async def scenario() -> None:
        vip, ip = address(), address()
        ports = [{"number": 443, "name": "tls", "protocol": "TLS", "targetPort": 9443}]
        async with (
            await asyncio.start_server(reached, ip, 9443),
            _open(tmp_path, entry_of_all(vip, ports=ports)) as (it, server),
        ):
            server.answers = {key: [ip] for key in ("one.example.com", "evil.org", "example.com")}
            reader, writer = await it.tunnel(f"{vip}:443")
            writer.write(client_hello(name))

            with suppress(TunnelReset):
                assert await reader.read() == answer
            writer.close()
            assert bool(server.queries) is bool(answer)

    run(scenario())


def test_without_resolution_any_address_of_a_network_is_followed(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two, elsewhere = address(), address(), address()
        entry = service_entry(one, hosts=[BELOW], resolution="NONE", addresses=[f"{one}/32", f"{two}/32"])
        async with (
            origin(one, answering(b"one"), port=80),
            origin(two, answering(b"two"), port=80),
            origin(elsewhere, answering(b"elsewhere"), port=80) as other,
            _open(tmp_path, entry) as (it, _),
        ):
            assert await ask(it, f"{one}:80", "any.example.com") == (200, b"one")
            assert await ask(it, f"{two}:80", "whatever") == (200, b"two")
            with pytest.raises(TunnelRefused):
                await it.tunnel(f"{elsewhere}:80")
            assert other.heads == []

    run(scenario())


def test_a_policy_of_an_address_holds_for_addresses_of_a_network(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = address(), address()
        entry = service_entry(one, resolution="NONE", addresses=[f"{one}/32", f"{two}/32"])
        deny = {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "not-two"},
            "spec": {
                "targetRefs": [{"group": "networking.istio.io", "kind": "ServiceEntry", "name": "api"}],
                "action": "DENY",
                "rules": [{"when": [{"key": "destination.ip", "values": [two]}]}],
            },
        }
        async with (
            origin(one, answering(b"one"), port=80),
            origin(two, answering(b"two"), port=80),
            _open(tmp_path, entry, deny) as (it, _),
        ):
            assert (await ask(it, f"{one}:80", HOST))[0] == 200
            assert (await ask(it, f"{two}:80", HOST))[0] == 403

    run(scenario())
