"""A ztunnel that enforces policies: real tunnels and plain connections to a pod, while policies change."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from l4.hbone.errors import TunnelRefused, TunnelReset
from l4.ztunnel.dump import dump, state_of
from l4.ztunnel.tables import policies
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import Origin, origin

STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
"""


def _policy(spec: str) -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: policy}}
spec: {{{spec}}}
"""


DENY_CLIENT = _policy("action: DENY, rules: [{from: [{source: {serviceAccounts: [client]}}]}]")
ALLOW_OTHERS = _policy("rules: [{from: [{source: {serviceAccounts: [other]}}]}]")


TRIAL = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: trial, annotations: {istio.io/dry-run: "true"}}
spec: {action: DENY, rules: [{from: [{source: {serviceAccounts: [other]}}]}]}
"""


class _World:
    """A pod whose application echoes, and that takes plain connections for its port 9080 at `entrance`."""

    def __init__(self, it: Mesh, text: str, ip: str, entrance: str, seen: Origin) -> None:
        self.mesh = it
        self.text = text
        self.ip = ip
        self.entrance = entrance
        self.seen = seen

    def apply(self, *more: str) -> None:
        self.mesh.apply("\n---\n".join((self.text, *more)))

    async def tunnel(self, account: str = "client") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self.mesh.tunnel(f"{self.ip}:9080", account=account, to=self.ip, expect="app")

    async def plain(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.entrance, 8080)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


@asynccontextmanager
async def _world(folder: Path) -> AsyncIterator[_World]:
    waypoint, vip, ip, entrance = (address() for _ in range(4))
    text = manifests(waypoint=waypoint, vip=vip, pods={"app": ip})
    capture = f"annotations: {{pywaypoint.dev/inbound-capture: '{entrance}:8080=9080', "
    async with mesh(folder, text.replace("annotations: {", capture), waypoint) as it, origin(ip, _echo) as seen:
        yield _World(it, text.replace("annotations: {", capture), ip, entrance, seen)


async def _talk(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    reader, writer = streams
    writer.write(b"hello")
    return await reader.readexactly(5)


@pytest.mark.parametrize(
    ("policy", "why"),
    [(DENY_CLIENT, "explicitly denied by: default/policy"), (ALLOW_OTHERS, "allow policies exist, but none allowed")],
)
def test_a_tunnel_that_policies_deny_is_refused_before_the_application_hears_of_it(
    tmp_path: Path, policy: str, why: str
) -> None:
    async def scenario() -> None:
        async with _world(tmp_path) as it:
            it.apply(policy)

            with pytest.raises(TunnelRefused) as refusal:
                await it.tunnel()

            assert refusal.value.status == 401
            assert it.seen.connections == 0
            await settled(lambda: f"connection closed due to policy rejection: {why}" in it.mesh.access_log)
            assert 'response_flags="DENY"' in it.mesh.metrics.render("")[0].decode()
            streams = await it.tunnel("other")
            assert await _talk(streams) == b"hello"
            streams[1].close()

    run(scenario())


@pytest.mark.parametrize("policy", [DENY_CLIENT, ALLOW_OTHERS])
def test_an_open_tunnel_ends_when_it_is_no_longer_allowed_and_others_stay(tmp_path: Path, policy: str) -> None:
    async def scenario() -> None:
        async with _world(tmp_path) as it:
            denied, allowed = await it.tunnel(), await it.tunnel("other")
            assert await _talk(denied) == await _talk(allowed) == b"hello"

            it.apply(policy)

            with pytest.raises((ConnectionError, asyncio.IncompleteReadError, TunnelReset)):
                await asyncio.wait_for(denied[0].readexactly(1), 1)
            assert await _talk(allowed) == b"hello"
            await settled(lambda: "connection closed due to policy change" in it.mesh.access_log)
            allowed[1].close()

    run(scenario())


def test_a_plain_connection_gets_in_until_mutual_tls_is_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _world(tmp_path) as it:
            before = await it.plain()
            assert await _talk(before) == b"hello"

            it.apply(STRICT)

            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(before[0].readexactly(1), 1)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await _talk(await it.plain())
            tunnel = await it.tunnel()
            assert await _talk(tunnel) == b"hello"
            why = "explicitly denied by: istio-system/istio_converted_static_strict"
            await settled(lambda: why in it.mesh.access_log)
            for _, writer in (tunnel, before):
                writer.close()

    run(scenario())


def test_the_waypoint_gets_in_where_policies_allow_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _world(tmp_path) as it:
            it.apply(_policy("rules: []"))

            streams = await it.mesh.tunnel(f"{it.ip}:9080", account="waypoint", to=it.ip, expect="app")

            assert await _talk(streams) == b"hello"
            streams[1].close()

    run(scenario())


def _hits(it: _World) -> dict[str, dict[str, int]]:
    """What `ztunnel policies` shows of each policy."""
    found = dump(state_of(it.mesh.node, it.mesh.pods))["policies"]
    assert isinstance(found, list)
    return {row["name"]: row["hits"] for row in policies({"policies": found})}


def test_what_policies_decide_is_counted_by_policy(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _world(tmp_path) as it:
            it.apply(ALLOW_OTHERS, TRIAL)
            streams = [await it.tunnel("other") for _ in range(2)]
            with pytest.raises(TunnelRefused):
                await it.tunnel()
            assert _hits(it) == {"policy": {"allowed": 2}, "trial": {"would_be_denied": 2}}
            text = it.mesh.metrics.render("")[0].decode()
            assert 'pywaypoint_authorization_allowed_total{policy="default/policy",rule="0"} 2' in text
            (denied,) = re.findall(r"^pywaypoint_authorization_denied_total{(.*)} 1$", text, re.MULTILINE)
            assert denied.startswith('policy="none",source_workload="unknown",source_workload_namespace="default",')
            assert (
                'source_principal="spiffe://cluster.local/ns/default/sa/client",destination_service_name="app"'
                in denied
            )

            it.apply(_policy("action: DENY, rules: [{from: [{source: {serviceAccounts: [other]}}]}]"))

            # Each open connection that a new policy cuts is one that the policy denies.
            await settled(lambda: _hits(it)["policy"] == {"allowed": 2, "denied": 2})
            for _, writer in streams:
                writer.close()

    run(scenario())


def test_the_policy_that_asks_for_mutual_tls_has_hits_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _world(tmp_path) as it:
            it.apply(STRICT)

            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await _talk(await it.plain())

            await settled(lambda: _hits(it) == {"istio_converted_static_strict": {"denied": 1}})
            assert 'source_principal="unknown"' in it.mesh.metrics.render("")[0].decode()

    run(scenario())
