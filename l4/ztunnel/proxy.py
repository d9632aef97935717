"""Connections into a pod: by a tunnel, or in plain TCP."""

import asyncio
import socket

from l4.discovery.workload import Service, Workload
from l4.hbone.connect import ConnectRequest
from l4.hbone.errors import ConnectFailed
from l4.hbone.server import IncomingTunnel
from l4.net.copy import Copy
from l4.net.descriptors import OutOfDescriptors
from l4.net.network import Network
from l4.net.proxy_protocol import encode
from l4.ztunnel.carry import carry, connect_plain, drop
from l4.ztunnel.inbound import Target, services_with, target_of
from l4.ztunnel.node import Node
from l4.ztunnel.outbound import OWN_PORTS
from l4.ztunnel.traffic import Flow, NotDrained, PolicyRejected
from policies.access import Access
from policies.attributes import Peer
from policies.host_port import host_port


def inbound(node: Node, pod_uid: str, network: Network | None, incoming: IncomingTunnel) -> None:
    """Decide on a CONNECT to a pod."""
    target = target_of(node.registry.current, pod_uid, incoming.request.authority, incoming.local[0])
    if isinstance(target, Target):
        node.spawn(_into(node, network, incoming, target))
    else:
        peer = host_port(incoming.peer.ip, incoming.peer.port)
        node.traffic.failed("inbound", peer, str(incoming.request.authority), target.reason)
        incoming.refuse(target.status)


async def _into(node: Node, network: Network | None, incoming: IncomingTunnel, target: Target) -> None:
    peer = incoming.peer
    access = Access(peer, target.address[:1], target.address[1])
    service = target.service_for(incoming.request.forwarded)
    flow = _flow(node, target.workload, peer, incoming.local, target.address, service, incoming.request)
    copy = node.traffic.opened(flow, access)
    verdict = node.judge(target.workload, access)
    node.traffic.judged(flow.ends, verdict)
    if not verdict.is_allowed:
        copy.abort(PolicyRejected(verdict))
        incoming.refuse(401)
        return
    try:
        await _connect(node, network, copy, peer, target)
    except (ConnectFailed, OutOfDescriptors) as error:
        copy.abort(error)
        incoming.refuse(503)
        return
    except asyncio.CancelledError:
        copy.abort(NotDrained())
        raise
    if copy.is_over:  # denied in the meantime
        incoming.refuse(401)
    elif incoming.accept(copy.near, [(b"baggage", target.workload.baggage)]) is None:
        copy.abort(ConnectionResetError("client disconnected before the tunnel was established"))


async def _connect(node: Node, network: Network | None, copy: Copy, peer: Peer, target: Target) -> None:
    if target.called is None:
        await connect_plain(target.address, copy.far, node, network, _kept(peer.ip, target.address))
        return
    ip, port = target.address
    if network is not None:  # in the pod itself, so that nobody else can reach the port, and be believed
        ip = "::1" if ":" in ip else "127.0.0.1"
    await connect_plain((ip, port), copy.far, node, network)
    copy.far.transport.write(encode((peer.ip, peer.port), target.called, str(peer.identity or "")))


async def passthrough(
    node: Node,
    pod_uid: str,
    network: Network | None,
    sock: socket.socket,
    source: tuple[str, int],
    to: tuple[str, int],
) -> None:
    """Carry a plain connection into a pod, if its policies allow a client without an identity."""
    if to[1] in OWN_PORTS:
        drop(node, sock, source, to, "attempted recursive call to ourselves", "inbound")
        return
    registry, peer = node.registry.current, Peer(None, *source)
    pod = registry.workloads.get(pod_uid)
    if pod is None:
        drop(node, sock, source, to, "the destination workload is no longer known", "inbound")
        return
    access = Access(peer, to[:1], to[1])
    flow = _flow(node, pod, peer, to, to, next(iter(services_with(registry, pod.uid, to[1])), None))

    async def enter(copy: Copy) -> None:
        verdict = node.judge(pod, access)
        node.traffic.judged(flow.ends, verdict)
        if not verdict.is_allowed:
            raise PolicyRejected(verdict)
        await connect_plain(to, copy.far, node, network, _kept(source[0], to))

    await carry(node, flow, sock, enter, access)


def _kept(client_ip: str, to: tuple[str, int]) -> str | None:
    """Return the client's address, from which the application sees the connection, unless it is the pod's own."""
    return None if client_ip == to[0] or (":" in client_ip) != (":" in to[0]) else client_ip


def _flow(
    node: Node,
    pod: Workload,
    peer: Peer,
    to: tuple[str, int],
    application: tuple[str, int],
    service: Service | None,
    tunnel: ConnectRequest | None = None,
) -> Flow:
    """A connection into a pod; without a `tunnel` there is no mutual TLS."""
    registry = node.registry.current
    source = registry.workload_at(peer.ip)
    ends = node.traffic.known.find(
        pod.uid,
        "inbound",
        node.sources.find(peer, registry, tunnel.baggage if tunnel is not None else b""),
        source.name if source is not None else "",
        peer.identity,
        pod.metric_labels,
        pod.name,
        pod.identity,
        service,
        tunnel is not None,
    )
    authority = str(tunnel.authority) if tunnel is not None else ""
    return Flow(ends, (peer.ip, peer.port), application, to, authority)
