"""A whole mesh in one process, on loopback: a waypoint and a ztunnel made of the real parts, from manifests.

Every test gets addresses of its own, so that tests run beside each other on the standard ports. When the block ends,
nothing may be left: no exchange, no stream, no connection, no task.
"""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from l4.config import manifest
from l4.config.holder import Holder
from l4.config.settings import Settings, fields_of
from l4.config.source import Documents
from l4.discovery.mesh import Mesh as MeshSettings
from l4.discovery.policy_objects import FollowedPolicies
from l4.discovery.registry import Registry
from l4.hbone.connect import Authority, ConnectRequest
from l4.hbone.pool import HbonePool
from l4.hbone.server import HboneServer
from l4.identity.files import FileStore
from l4.identity.source import OwnCertificate, WorkloadCertificate
from l4.net.listener import bind
from l4.telemetry.access_log import AccessLog
from l4.telemetry.metrics import MeshMetrics
from l4.ztunnel.capture import OwnAddresses
from l4.ztunnel.node import Node
from l4.ztunnel.pods import Pods
from l4.ztunnel.traffic import Traffic
from policies.attributes import Identity
from policies.filters import in_order
from policies.route import Match, Route, RouteTable
from tests.kit.certificates import MeshPki
from waypoint.config.pipeline import Pipeline
from waypoint.config.snapshot import Snapshot
from waypoint.data_path import DataPath
from waypoint.process.worker import Parts, Worker, assemble
from waypoint.settings import SECTIONS
from waypoint.telemetry.spans import Tracer
from waypoint.upstream.balancer import prepare
from waypoint.upstream.clusters import Clusters

GATEWAY = ("default", "waypoint")
_BLOCKS = 2_500
_BLOCK_SIZE = 10 * 250
_GUARD_PORT = 15_999


def address() -> str:
    """Return a loopback address that no other test uses, in this process or in another."""
    return next(_addresses)


def _own_addresses() -> Iterator[str]:
    """Yield the addresses of claimed blocks. A further block is claimed when all are used."""
    begin, guards = os.getpid(), []
    for block in (it % _BLOCKS for it in range(begin, begin + _BLOCKS)):
        guard = _claim(block)
        if guard is not None:
            guards.append(guard)
            yield from (_address(block, number) for number in range(_BLOCK_SIZE))
    raise RuntimeError(f"other processes use all blocks of test addresses: who holds port {_GUARD_PORT}?")


def _claim(block: int) -> socket.socket | None:
    """Claim a block by binding a port at an address that no test gets. The port stays bound as long as the process
    lives, and the kernel releases it however the process ends."""
    guard = socket.socket()
    try:
        guard.bind((f"127.{150 + block % 100}.{block // 100 * 10}.255", _GUARD_PORT))
    except OSError as error:
        guard.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return guard


def _address(block: int, number: int) -> str:
    return f"127.{150 + block % 100}.{block // 100 * 10 + number // 250}.{number % 250 + 1}"


_addresses = _own_addresses()


def gateway(value: str, *, kind: str = "IPAddress", labels: str = "") -> str:
    """Return a namespace that uses a waypoint, and its Gateway, whose address has the given kind."""
    metadata = f"{{name: waypoint, labels: {{{labels}}}}}" if labels else "{name: waypoint}"
    return f"""
apiVersion: v1
kind: Namespace
metadata: {{name: default, labels: {{istio.io/use-waypoint: waypoint}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {metadata}
spec: {{gatewayClassName: pywaypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}
status: {{addresses: [{{type: {kind}, value: {value}}}]}}
"""


def manifests(*, waypoint: str, vip: str, pods: dict[str, str], port: int = 9080, more: str = "") -> str:
    """Return a Service `app` at `vip` whose endpoints are `pods` (name → address), bound to a waypoint."""
    text = f"""{gateway(waypoint)}
---
apiVersion: v1
kind: Pod
metadata: {{name: waypoint-1, labels: {{gateway.networking.k8s.io/gateway-name: waypoint}}}}
spec: {{serviceAccountName: waypoint}}
status: {{podIP: {waypoint}}}
---
apiVersion: v1
kind: Service
metadata: {{name: app}}
spec: {{clusterIP: {vip}, ports: [{{name: http, port: {port}}}], selector: {{app: app}}}}
"""
    for name, ip in pods.items():
        text += f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: app}}, annotations: {{ambient.istio.io/redirection: enabled}}}}
spec: {{serviceAccountName: app, nodeName: node}}
status: {{podIP: {ip}}}
"""
    return f"{text}\n---\n{more}" if more else text


@dataclass
class Mesh:
    pki: MeshPki
    settings: Settings
    worker: Worker
    registry: Holder[Registry]
    node: Node
    pods: Pods
    log: Path
    waypoint: str
    certificates: FileStore
    server: HboneServer
    pools: dict[Identity, HbonePool] = field(default_factory=dict)
    text: str = ""
    pipeline: Pipeline = field(init=False)
    policies: FollowedPolicies = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline = Pipeline(GATEWAY, self.settings, self.waypoint)
        self.policies = FollowedPolicies(self.settings.of(MeshSettings).trust_domains)

    @property
    def path(self) -> DataPath:
        return self.worker.path

    @property
    def clusters(self) -> Clusters:
        return self.worker.path.clusters

    @property
    def holder(self) -> Holder[Snapshot]:
        return self.worker.holder

    @property
    def metrics(self) -> MeshMetrics:
        return self.worker.metrics

    @property
    def access_log(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def apply(self, text: str) -> Snapshot:
        """Put other manifests in force, as the program does."""
        self.text = text
        documents, problems = manifest.parse("mesh.yaml", text.encode())
        compiled = self.pipeline.compile(Documents(tuple(sorted(documents, key=lambda it: it.key)), tuple(problems)))
        snapshot, registry = compiled.snapshot, compiled.registry
        self.registry.swap(registry)
        self.node.policies.swap(self.policies.take(compiled.known))
        self.pods.update(registry)
        for config in snapshot.clusters.values():
            prepare(config)
        self.worker.put_in_force(snapshot)
        return snapshot

    def rule(self, *policies: object, **fields: object) -> None:
        """Let every request to a service fall under its first rule, with these policies and fields changed."""
        snapshot = self.holder.current
        destinations = {}
        for key, it in snapshot.destinations.items():
            rule = replace(it.routes.routes[0].rule, **fields)  # type: ignore[arg-type]
            rule = replace(rule, filters=replace(rule.filters, policies=in_order(policies)))
            destinations[key] = replace(it, routes=RouteTable([Route(Match(), rule)]))
        self.holder.swap(replace(snapshot, destinations=destinations))

    async def tunnel(
        self,
        authority: str,
        *,
        account: str = "client",
        namespace: str = "default",
        to: str | None = None,
        expect: str = "waypoint",
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A tunnel to `authority` through the waypoint (or the HBONE port of `to`), as the service account."""
        identity = self.pki.identity(namespace, account)
        pool = self.pools.setdefault(identity, HbonePool(self.settings))
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await pool.connect(
            lambda: protocol,
            certificate=self.pki.certificate(identity),
            identities=frozenset({self.pki.identity("default", expect)}),
            address=(to or self.waypoint, 15008),
            request=ConnectRequest(Authority.parse(authority.encode())),
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    async def get(self, authority: str, path: str = "/", headers: str = "", *, account: str = "client") -> bytes:
        """The raw answer to one GET on a tunnel of its own."""
        reader, writer = await self.tunnel(authority, account=account)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{headers}\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def mesh(
    folder: Path,
    text: str,
    waypoint: str,
    settings: Settings | None = None,
    *,
    has_revocations: bool = False,
    tracer: Tracer | None = None,
) -> AsyncIterator[Mesh]:
    """Run a mesh. With `has_revocations`, the waypoint checks peers against the list that `pki.revoke` writes."""
    settings = settings or Settings()
    before = asyncio.all_tasks()
    pki = MeshPki(folder / "pki")
    chain = pki.write(pki.identity("default", "waypoint"))
    revocations = pki.revoke() if has_revocations else None
    certificates = FileStore(chain, chain.with_suffix(".key"), pki.bundle_path, revocations)
    certificates.load()
    own = OwnCertificate(certificates, certificates.current.identity)
    for account in ("app", "client"):
        pki.certificate(pki.identity("default", account))
    log = folder / "access.log"
    access_log = AccessLog(str(log), flush_seconds=0.01)
    worker = assemble(Parts(settings, own, waypoint, access_log, tracer))
    registry = Holder(Registry())
    node = Node(registry, _Certificates(pki), Traffic(worker.metrics, access_log), settings)
    pods = Pods(node, "node", OwnAddresses(15008))
    server = worker.serve(bind(waypoint, 15008))
    it = Mesh(pki, settings, worker, registry, node, pods, log, waypoint, certificates, server)
    it.apply(text)
    try:
        yield it
    finally:
        for other in it.pools.values():
            await other.close()
        await worker.drain(1)
        await worker.release()
        await pods.drain(1)
        access_log.close()
        await settled(lambda: not worker.tasks and not node.tasks and asyncio.all_tasks() == before)
    assert worker.path.exchanges == 0
    assert worker.connection_count == 0
    assert worker.pool.connection_count == 0


async def settled(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until the condition holds, checking after every turn of the event loop."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


class _Certificates:
    """A source of any identity's certificate, created on demand."""

    def __init__(self, pki: MeshPki) -> None:
        self._pki = pki

    def get(self, identity: Identity) -> WorkloadCertificate:
        return self._pki.certificate(identity)

    def want(self, identity: Identity) -> None: ...

    def forget(self, identity: Identity) -> None: ...

    def on_change(self, callback: Callable[[WorkloadCertificate], None]) -> None: ...

    async def watch(self) -> None: ...

    seconds_left = None
    concern = ""


def with_settings(**changes: object) -> Settings:
    """Return the defaults of both programs with some changes, each in the section of the setting."""
    sections = []
    for section in SECTIONS:
        own = {it.name: changes.pop(it.name) for it in fields_of(section) if it.name in changes}
        sections.append(section(**own))
    assert not changes, f"there are no settings {', '.join(changes)}"
    return Settings(*sections)
