"""Discovery as its clients meet it: over TLS, at the address of the authority, with an emulated API server behind it.

The client is ztunnel's behaviour: `DiscoveryFeed` for what our own does, and a raw stream for what it does not.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node
from l4.config import manifest
from l4.config.source import Documents
from l4.discovery.mesh import Mesh
from l4.identity.istio_ca import METHOD as SIGN
from l4.identity.istio_ca import IstioCa
from l4.telemetry.metrics import MeshMetrics
from l4.xds import addresses, authorizations
from l4.xds.client import METHOD
from l4.xds.discovered import DiscoveredMesh
from l4.xds.feed import DiscoveryFeed
from l4.xds.server import DiscoveryServer
from policies.attributes import Identity
from tests.kit.aio import run
from tests.kit.served import Served, assert_same
from tests.waypoint.controller.accounts import AccountsServer, accounts_server
from tests.waypoint.controller.test_signing_service import NODE_ACCOUNTS, authority, certificate
from waypoint.controller import discovery_service, discovery_stream, signing_service
from waypoint.controller.callers import Callers
from waypoint.controller.discovery_metrics import METRICS
from waypoint.controller.discovery_service import DiscoveryService
from waypoint.controller.signing_service import SigningService

MESH = Mesh()
ADDRESS, AUTHORIZATION = addresses.TYPE, authorizations.TYPE
NODE = Node(id="ztunnel~1.1.1.1~ztunnel-a.pywaypoint-system~pywaypoint-system.svc.cluster.local")
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {0}, namespace: default, labels: {{app: a}}, annotations: {{ambient.istio.io/redirection: enabled}}}}
spec: {{serviceAccountName: a, nodeName: {2}}}
status: {{podIP: {1}, phase: Running, conditions: [{{type: Ready, status: "True"}}]}}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: app, namespace: default}
spec: {clusterIP: 10.1.0.1, ports: [{name: web, port: 80, targetPort: 8080}], selector: {app: a}}
"""
DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: default}
spec: {selector: {matchLabels: {app: a}}, action: DENY, rules: [{}]}
"""
A, B = POD.format("a", "10.0.0.1", "here"), POD.format("b", "10.0.0.2", "there")
UID = "Kubernetes//Pod/default/{}"


class Raw:
    """A stream of which a test says every request."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def ask(self, type_url: str = ADDRESS, **fields: Any) -> None:
        await self.call.write(DeltaDiscoveryRequest(type_url=type_url, **fields).SerializeToString())

    async def receive(self) -> DeltaDiscoveryResponse:
        async with asyncio.timeout(20):
            return DeltaDiscoveryResponse.FromString(await self.call.read())

    async def got(self) -> tuple[str, list[str], list[str]]:
        """Receive and acknowledge: the kind, and the names of what was changed and removed."""
        response = await self.receive()
        await self.ask(response.type_url, response_nonce=response.nonce)
        kind = response.type_url.rpartition(".")[2]
        return kind, [it.name for it in response.resources], list(response.removed_resources)

    async def end(self) -> grpc.StatusCode:
        async with asyncio.timeout(20):
            while True:
                try:
                    if await self.call.read() is grpc.aio.EOF:
                        return await self.call.code()
                except grpc.aio.AioRpcError as error:
                    return error.code()


@dataclass
class World:
    folder: Path
    accounts: AccountsServer
    signing: SigningService
    discovery: DiscoveryService
    served: Served = field(default_factory=lambda: Served(MESH))
    objects: tuple[str, ...] = ()
    channels: list[Any] = field(default_factory=list)

    def put(self, *objects: str) -> None:
        documents, problems = manifest.parse("mesh.yaml", "\n---\n".join(objects).encode())
        assert not problems
        self.served.take(Documents(tuple(sorted(documents, key=lambda it: it.key))))
        self.discovery.publish(self.served.description)

    @property
    def token(self) -> str:
        return self.accounts.account("pywaypoint-system", "ztunnel", "ztunnel-a", "uid-a")

    @property
    def roots(self) -> Path:
        path = self.folder / "roots.pem"
        path.write_bytes(self.signing.authority.roots)
        return path

    def server(self) -> DiscoveryServer:
        path = self.folder / "token"
        path.write_text(self.token)
        return DiscoveryServer(f"localhost:{self.signing.port}", self.roots, path, "Kubernetes", NODE)

    def raw(self, token: str | None = None) -> Raw:
        credentials = grpc.ssl_channel_credentials(self.roots.read_bytes())
        channel = grpc.aio.secure_channel(f"localhost:{self.signing.port}", credentials)
        self.channels.append(channel)
        its = self.token if token is None else token
        return Raw(channel.stream_stream(METHOD)(metadata=(("authorization", f"Bearer {its}"),) if its else ()))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the service tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    accounts = AccountsServer()
    accounts.pod("pywaypoint-system", "ztunnel-a", "ztunnel", "here", uid="uid-a")
    accounts.pod("default", "a", "a", "here")
    async with accounts_server(accounts) as api:
        callers = Callers(api, "cluster.local", NODE_ACCOUNTS)
        discovery = DiscoveryService(callers)
        signing = SigningService(authority(), callers, ["localhost"])
        await signing.start("127.0.0.1:0", discovery)
        it = World(folder, accounts, signing, discovery)
        try:
            yield it
        finally:
            for channel in it.channels:
                await channel.close()
            await signing.stop(0)


def test_our_client_knows_the_mesh_as_the_objects_say_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(SERVICE, A)
            feed, mesh = DiscoveryFeed(it.server(), MESH), DiscoveredMesh(MESH, lambda workload: True)
            state = mesh.take(await feed.load())
            assert_same(it.served, state, MESH)
            is_new = asyncio.Event()

            async def take(arrived: Any) -> None:
                nonlocal state
                state = mesh.take(arrived)
                is_new.set()

            watching = asyncio.create_task(feed.watch(take))
            for objects in ((SERVICE, A, B), (SERVICE, B, DENY), (B,), (SERVICE, A, B)):
                is_new.clear()
                it.put(*objects)
                async with asyncio.timeout(20):
                    await is_new.wait()
                assert_same(it.served, state, MESH)
            assert state.problems == frozenset()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await feed.close()

    run(scenario())


def test_certificates_come_from_the_same_address(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream = it.raw()
            await stream.ask(node=NODE)
            assert await stream.got() == ("Address", [UID.format("a")], [])

            (tmp_path / "other").write_text(it.accounts.account("default", "a"))
            address = f"localhost:{it.signing.port}"
            client = IstioCa(address, root_path=it.roots, token_path=tmp_path / "other", cluster_id="Kubernetes")
            signed = await certificate(client, Identity("cluster.local", "default", "a"))
            await client.close()
            assert signed.identity == Identity("cluster.local", "default", "a")

    run(scenario())


def test_policies_come_before_workloads_and_go_after_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream = it.raw()
            await stream.ask(node=NODE)
            await stream.ask(AUTHORIZATION)
            assert sorted([await stream.got(), await stream.got()]) == [
                ("Address", [UID.format("a")], []),
                ("Authorization", [], []),
            ]

            it.put(A, DENY)
            assert await stream.got() == ("Authorization", ["default/deny"], [])
            assert await stream.got() == ("Address", [UID.format("a")], [])

            it.put(A)
            assert await stream.got() == ("Address", [UID.format("a")], [])
            assert await stream.got() == ("Authorization", [], ["default/deny"])

    run(scenario())


def test_a_client_that_comes_back_gets_the_difference(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(SERVICE, A, B)
            stream = it.raw()
            await stream.ask(node=NODE)
            versions = {resource.name: resource.version for resource in (await stream.receive()).resources}
            assert len(versions) == 3
            stream.call.cancel()
            it.put(SERVICE, POD.format("a", "10.0.0.9", "here"))

            stream = it.raw()
            await stream.ask(node=NODE, initial_resource_versions=versions)
            assert await stream.got() == ("Address", [UID.format("a")], [UID.format("b")])

    run(scenario())


def test_on_demand(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(SERVICE, A, B)
            stream, node = it.raw(), Node(id=NODE.id)
            node.metadata.update({"NODE_NAME": "here"})
            await stream.ask(node=node, resource_names_subscribe=["*"], resource_names_unsubscribe=["*"])
            assert await stream.got() == ("Address", [UID.format("a")], [])

            await stream.ask(resource_names_subscribe=["/10.1.0.1"])
            service = "default/app.default.svc.cluster.local"
            assert await stream.got() == ("Address", [service, UID.format("a"), UID.format("b")], [])
            await stream.ask(resource_names_subscribe=["/10.9.9.9"])
            assert await stream.got() == ("Address", [], ["/10.9.9.9"])

            it.put(SERVICE, A)
            assert await stream.got() == ("Address", [], [UID.format("b")])

    run(scenario())


def test_our_client_learns_on_demand_what_it_asks_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(SERVICE, A, B, DENY)
            feed = DiscoveryFeed(it.server(), MESH, is_on_demand=True)
            mesh = DiscoveredMesh(MESH, lambda workload: True)
            state = mesh.take(await feed.load())
            assert (state.registry.workloads, len(state.policies.policies)) == ({}, 1)

            async def take(arrived: Any) -> None:
                nonlocal state
                state = mesh.take(arrived)

            watching = asyncio.create_task(feed.watch(take))
            async with asyncio.timeout(20):
                assert await feed.find("/10.1.0.1", 10)
                assert_same(it.served, state, MESH)
                assert await feed.find("/10.9.9.9", 10)
                it.put(SERVICE, A, DENY)
                await it.until(lambda: UID.format("b") not in state.registry.workloads)
            assert_same(it.served, state, MESH)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await feed.close()

    run(scenario())


def test_what_is_refused_is_logged_and_not_sent_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream = it.raw()
            await stream.ask(node=NODE)
            first = await stream.receive()
            refusal = {"code": 3, "message": "Kubernetes//Pod/default/a: name: it is odd"}
            await stream.ask(response_nonce=first.nonce, error_detail=refusal)
            it.put(A, B)

            assert await stream.got() == ("Address", [UID.format("b")], [])
            (line,) = (record.getMessage() for record in caplog.records if "refuses" in record.getMessage())
            assert line.startswith(
                f"{NODE.id} refuses resources of the type {ADDRESS}: Kubernetes//Pod/default/a: name"
            )
            shown = MeshMetrics("controller", "", METRICS)
            it.discovery.counted.show(shown)
            assert {line for line in shown.render("")[0].decode().splitlines() if f'"{ADDRESS}"' in line} == {
                f'pywaypoint_discovery_responses_total{{url="{ADDRESS}"}} 2',
                f'pywaypoint_discovery_refusals_total{{url="{ADDRESS}"}} 1',
            }
            assert it.discovery.counted.clients.value == 1
        assert it.discovery.counted.clients.value == 0

    run(scenario())


def test_changes_before_an_acknowledgement_become_one_response(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream = it.raw()
            await stream.ask(node=NODE)
            first = await stream.receive()
            for number in range(20):
                it.put(POD.format("a", f"10.0.0.{number + 10}", "here"), *([B] if number % 2 else []))
            await stream.ask(response_nonce=first.nonce)

            second = await stream.receive()
            assert [resource.name for resource in second.resources] == [UID.format("a"), UID.format("b")]
            assert int(second.nonce) == int(first.nonce) + 1

    run(scenario())


def test_a_client_that_does_not_answer_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery_stream, "ANSWER_SECONDS", 0.2)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream = it.raw()
            await stream.ask(node=NODE)

            assert await stream.end() is grpc.StatusCode.DEADLINE_EXCEEDED
            await it.until(lambda: it.discovery.counts["clients"] == 0)

    run(scenario())


def test_a_client_that_reads_nothing_holds_one_response(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery_stream, "ANSWER_SECONDS", 1.0)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(*(POD.format(f"p{number}", f"10.1.{number // 250}.{number % 250}", "n") for number in range(1000)))
            credentials = grpc.ssl_channel_credentials(it.roots.read_bytes())
            options = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
            async with grpc.aio.secure_channel(f"localhost:{it.signing.port}", credentials, options) as channel:
                call = channel.stream_stream(METHOD)(metadata=(("authorization", f"Bearer {it.token}"),))
                await call.write(DeltaDiscoveryRequest(type_url=ADDRESS, node=NODE).SerializeToString())
                await it.until(lambda: it.discovery.counts["clients"] == 1)
                await it.until(lambda: it.discovery.counts["clients"] == 0)

    run(scenario())


@pytest.mark.parametrize(
    ("node", "code"),
    [
        (Node(id="ztunnel~1.1.1.1~z.default~default.svc.cluster.local"), grpc.StatusCode.PERMISSION_DENIED),
        (Node(id="nonsense"), grpc.StatusCode.INVALID_ARGUMENT),
        (Node(), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_client_that_says_it_is_somebody_else(tmp_path: Path, node: Node, code: grpc.StatusCode) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream = it.raw()
            await stream.ask(node=node)

            assert await stream.end() is code

    run(scenario())


@pytest.mark.parametrize("name", ["NAMESPACE", "SERVICE_ACCOUNT"])
def test_metadata_must_be_the_tokens(tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream, node = it.raw(), Node(id=NODE.id)
            node.metadata.update({name: "other"})
            await stream.ask(node=node)

            assert await stream.end() is grpc.StatusCode.PERMISSION_DENIED

    run(scenario())


@pytest.mark.parametrize("token", ["", "unknown"])
def test_without_a_good_token_nothing_is_read(tmp_path: Path, token: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)

            assert await it.raw(token).end() is grpc.StatusCode.UNAUTHENTICATED

    run(scenario())


def test_a_mesh_that_is_not_known_is_not_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            assert await it.raw().end() is grpc.StatusCode.UNAVAILABLE

    run(scenario())


def test_callers_cannot_be_identified_while_the_api_server_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            token = it.token
            it.accounts.refusal = (503, "ServiceUnavailable")

            assert await it.raw(token).end() is grpc.StatusCode.UNAVAILABLE

    run(scenario())


def test_one_pod_has_few_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery_service, "MAX_STREAMS_EACH", 1)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            first = it.raw()
            await first.ask(node=NODE)
            await first.got()

            assert await it.raw().end() is grpc.StatusCode.RESOURCE_EXHAUSTED
            first.call.cancel()
            await it.until(lambda: it.discovery.counts["clients"] == 0)
            third = it.raw()
            await third.ask(node=NODE)
            await third.got()

    run(scenario())


def test_streams_end_in_peace_after_a_while_and_when_the_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream = it.raw()
            await stream.ask(node=NODE)
            await stream.got()
            with monkeypatch.context() as patch:
                patch.setattr(discovery_service, "MAX_SECONDS", 0.2)
                short = it.raw()
                await short.ask(node=NODE)
                await short.got()
                assert await short.end() is grpc.StatusCode.OK

            it.discovery.close()
            assert await stream.end() is grpc.StatusCode.OK

    run(scenario())


def test_bytes_that_are_no_request_end_the_stream(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream = it.raw()
            await stream.call.write(b"\xff\xff")

            assert await stream.end() is grpc.StatusCode.INVALID_ARGUMENT

    run(scenario())


def test_a_type_that_is_not_served_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.put(A)
            stream = it.raw()
            await stream.ask("type.googleapis.com/other", node=NODE)
            await stream.ask()

            assert await stream.got() == ("Address", [UID.format("a")], [])
            assert any("asks for the type 'type.googleapis.com/other'" in it.getMessage() for it in caplog.records)

    run(scenario())


@pytest.mark.parametrize(
    ("token", "content", "code"),
    [
        (True, bytes(300 << 10), grpc.StatusCode.INVALID_ARGUMENT),
        (True, b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (False, bytes(300 << 10), grpc.StatusCode.UNAUTHENTICATED),
    ],
)
def test_the_authority_takes_no_longer_requests_beside_discovery(
    tmp_path: Path, token: bool, content: bytes, code: grpc.StatusCode
) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            assert await refusal(it, it.token if token else "unknown", content) is code

    run(scenario())


def test_the_authority_signs_only_so_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_service, "MAX_CALLS", 0)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            assert await refusal(it, it.token, b"") is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(scenario())


def test_a_request_for_a_certificate_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_service, "READ_SECONDS", 0.1)

    async def scenario() -> None:
        async with world(tmp_path) as it:
            credentials = grpc.ssl_channel_credentials(it.roots.read_bytes())
            async with grpc.aio.secure_channel(f"localhost:{it.signing.port}", credentials) as channel:
                call = channel.stream_unary(SIGN)(metadata=(("authorization", f"Bearer {it.token}"),))
                async with asyncio.timeout(20):
                    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(scenario())


async def refusal(it: World, token: str, content: bytes) -> grpc.StatusCode:
    """The answer of the authority to some bytes."""
    credentials = grpc.ssl_channel_credentials(it.roots.read_bytes())
    async with grpc.aio.secure_channel(f"localhost:{it.signing.port}", credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(SIGN)(content, metadata=(("authorization", f"Bearer {token}"),))
        return raised.value.code()
