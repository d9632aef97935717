"""What all pods of the node share, and the two ways of a connection: out of a pod, and into one."""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import random
from typing import assert_never

from l4.config.holder import Holder
from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, Workload
from l4.discovery.workload_policies import NO_POLICIES, WorkloadPolicies
from l4.hbone.client import keep_alive
from l4.hbone.connect import ConnectRequest
from l4.hbone.errors import ConnectFailed, ConnectTimedOut, TunnelError
from l4.hbone.pool import HbonePool
from l4.hbone.server import IncomingTunnel
from l4.identity.store import CertificateSource, NoCertificate
from l4.net import sockets
from l4.net.capacity import Capacity
from l4.net.copy import Copy, reset_on_close
from l4.telemetry.propagation import format_baggage, format_forwarded, parse_forwarded
from l4.telemetry.source import SourceLabels
from l4.ztunnel.inbound import Target, services_with, target_of
from l4.ztunnel.outbound import HboneHop, PlainHop, Refused, decide, same_family
from l4.ztunnel.traffic import Flow, NotDrained, PolicyRejected, Traffic, labels_of
from policies.access import Access
from policies.attributes import Peer
from policies.authorization import ALLOWED, Verdict

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Node:
    """What every pod's listeners use. `spawn` starts a task that the program owns."""

    registry: Holder[Registry]
    certificates: CertificateSource
    traffic: Traffic
    settings: Settings
    sources: SourceLabels = field(default_factory=SourceLabels)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    policies: Holder[WorkloadPolicies] = field(default_factory=lambda: Holder(NO_POLICIES))
    capacity: Capacity = field(init=False)

    def __post_init__(self) -> None:
        self.policies.subscribe(self._judge_again)
        self.capacity = Capacity(self.settings.max_connections)

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def judge(self, workload: Workload, access: Access) -> Verdict:
        """Whether somebody may come in."""
        authorization = self.policies.current.of(workload)
        if authorization is None:
            return ALLOWED
        verdict = authorization.judge(access)
        for shadow in verdict.shadow:
            log.debug("dry-run of policies for %s: %s", workload.name, shadow)
        return verdict

    def _judge_again(self, policies: WorkloadPolicies) -> None:
        if not policies.is_empty:
            self.traffic.cut(self._is_denied)

    def _is_denied(self, pod_uid: str, access: Access) -> bool:
        workload = self.registry.current.workloads.get(pod_uid)
        return workload is not None and not self.judge(workload, access).is_allowed

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection's task failed", exc_info=error)


async def outbound(
    node: Node, pod_uid: str, pool: HbonePool, sock: socket.socket, source: tuple[str, int], to: tuple[str, int]
) -> None:
    """Carry a pod's accepted connection to where it was going; its bytes stay in the kernel until the way stands."""
    registry = node.registry.current
    pod = registry.workloads.get(pod_uid)
    if pod is None:
        _drop(node, sock, source, to, "the source workload is no longer known")
        return
    match hop := decide(registry, pod, to, random()):
        case Refused(reason=reason):
            _drop(node, sock, source, to, reason)
        case HboneHop():
            authority = str(hop.authority)
            flow = _outbound_flow(pod, source, hop.address, authority, hop.workload, hop.service, is_hbone=True)
            await _carry(node, flow, sock, lambda copy: _open_tunnel(node, pool, pod, source, hop, copy))
        case PlainHop():
            flow = _outbound_flow(pod, source, hop.address, "", hop.workload, hop.service, is_hbone=False)
            await _carry(node, flow, sock, lambda copy: connect_plain(hop.address, copy.far, node.settings))
        case _:
            assert_never(hop)


async def _open_tunnel(
    node: Node, pool: HbonePool, pod: Workload, source: tuple[str, int], hop: HboneHop, copy: Copy
) -> None:
    request = ConnectRequest(
        hop.authority,
        baggage=format_baggage(pod),
        forwarded=format_forwarded(*source, hop.service.hostname if hop.service else ""),
    )
    await pool.connect(
        lambda: copy.far,
        certificate=node.certificates.get(pod.identity),
        identities=hop.identities,
        address=hop.address,
        request=request,
        local_ip=same_family(pod, hop.address[0]),
    )


async def _carry(
    node: Node,
    flow: Flow,
    sock: socket.socket,
    connect: Callable[[Copy], Coroutine[None, None, None]],
    access: Access | None = None,
) -> None:
    copy = node.traffic.opened(flow, access)
    try:
        await connect(copy)
        keep_alive(sock, node.settings)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: copy.near, sock)
    except (TunnelError, NoCertificate, OSError) as error:
        copy.abort(error)
        reset(sock)
    except asyncio.CancelledError:
        copy.abort(NotDrained())
        reset(sock)
        raise


def _outbound_flow(
    pod: Workload,
    source: tuple[str, int],
    address: tuple[str, int],
    authority: str,
    workload: Workload | None,
    service: Service | None,
    *,
    is_hbone: bool,
) -> Flow:
    return Flow(
        pod_uid=pod.uid,
        direction="outbound",
        source_address=source,
        source=pod.metric_labels,
        source_pod=pod.name,
        source_identity=pod.identity,
        destination_address=address,
        authority=authority,
        destination=labels_of(workload),
        destination_pod=workload.name if workload else "",
        destination_identity=workload.identity if workload and is_hbone else None,
        service=service,
        is_mutual_tls=is_hbone,
    )


def _drop(
    node: Node,
    sock: socket.socket,
    source: tuple[str, int],
    to: tuple[str, int],
    reason: str,
    direction: str = "outbound",
) -> None:
    node.traffic.failed(direction, f"{source[0]}:{source[1]}", f"{to[0]}:{to[1]}", reason)
    reset(sock)


def reset(sock: socket.socket) -> None:
    """Close so that the application sees a reset, not an orderly end."""
    reset_on_close(sock)
    sock.close()


def inbound(node: Node, pod_uid: str, incoming: IncomingTunnel) -> None:
    """Decide about a CONNECT to a pod."""
    target = target_of(node.registry.current, pod_uid, incoming.request.authority, incoming.local[0])
    if isinstance(target, Target):
        node.spawn(_into(node, incoming, target))
    else:
        peer = f"{incoming.peer.ip}:{incoming.peer.port}"
        node.traffic.failed("inbound", peer, str(incoming.request.authority), target.reason)
        incoming.refuse(target.status)


async def _into(node: Node, incoming: IncomingTunnel, target: Target) -> None:
    registry, peer = node.registry.current, incoming.peer
    access = Access(peer, target.address[:1], target.address[1])
    source = registry.workload_at(peer.ip)
    host = parse_forwarded(incoming.request.forwarded).host
    flow = Flow(
        pod_uid=target.workload.uid,
        direction="inbound",
        source_address=(peer.ip, peer.port),
        source=node.sources.find(Peer(peer.identity, peer.ip, peer.port), registry, incoming.request.baggage),
        source_pod=source.name if source else "",
        source_identity=peer.identity,
        destination_address=incoming.local,
        authority=str(incoming.request.authority),
        destination=target.workload.metric_labels,
        destination_pod=target.workload.name,
        destination_identity=target.workload.identity,
        service=target.service_for(host),
        is_mutual_tls=True,
    )
    copy = node.traffic.opened(flow, access)
    verdict = node.judge(target.workload, access)
    if not verdict.is_allowed:
        copy.abort(PolicyRejected(verdict))
        incoming.refuse(401)
        return
    try:
        await connect_plain(target.address, copy.far, node.settings)
    except ConnectFailed as error:
        copy.abort(error)
        incoming.refuse(503)
        return
    except asyncio.CancelledError:
        copy.abort(NotDrained())
        raise
    if copy.is_over:  # denied meanwhile
        incoming.refuse(401)
    elif incoming.accept(copy.near, [(b"baggage", format_baggage(target.workload))]) is None:
        copy.abort(ConnectionResetError("client disconnected before the tunnel stood"))


async def passthrough(
    node: Node, pod_uid: str, sock: socket.socket, source: tuple[str, int], to: tuple[str, int]
) -> None:
    """Carry a connection without mutual TLS into a pod, if its policies let in who has no identity."""
    registry, peer = node.registry.current, Peer(None, *source)
    pod = registry.workloads.get(pod_uid)
    if pod is None:
        _drop(node, sock, source, to, "the destination workload is no longer known", "inbound")
        return
    access = Access(peer, to[:1], to[1])
    caller = registry.workload_at(peer.ip)
    flow = Flow(
        pod_uid=pod.uid,
        direction="inbound",
        source_address=source,
        source=node.sources.find(peer, registry, b""),
        source_pod=caller.name if caller else "",
        source_identity=None,
        destination_address=to,
        authority="",
        destination=pod.metric_labels,
        destination_pod=pod.name,
        destination_identity=pod.identity,
        service=next(services_with(registry, pod, to[1]), None),
        is_mutual_tls=False,
    )

    async def enter(copy: Copy) -> None:
        verdict = node.judge(pod, access)
        if not verdict.is_allowed:
            raise PolicyRejected(verdict)
        await connect_plain(to, copy.far, node.settings)

    await _carry(node, flow, sock, enter, access)


async def connect_plain(address: tuple[str, int], protocol: asyncio.Protocol, settings: Settings) -> None:
    """Connect in plain TCP. Raises ConnectFailed."""
    loop = asyncio.get_running_loop()
    place = f"{address[0]}:{address[1]}"
    try:
        async with asyncio.timeout(settings.connect_seconds):
            transport, _ = await loop.create_connection(lambda: protocol, sock=await sockets.connect(address))
    except TimeoutError as error:
        raise ConnectTimedOut(f"connect to {place} timed out after {settings.connect_seconds:g} s") from error
    except OSError as error:
        raise ConnectFailed(f"connection failed: {place}: {error.strerror or error}") from error
    keep_alive(transport.get_extra_info("socket"), settings)
