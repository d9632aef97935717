"""Connections out of a pod: decide, connect, and switch to another endpoint while nothing was delivered.

Nothing was delivered until a connection or tunnel is established, and after that until a byte has passed in either
direction: an unused tunnel is replaced if its HBONE connection is lost. A response of the application or a refusal by a
policy is final.
"""

import asyncio
import socket
from random import random

from l4.discovery.workload import Workload
from l4.hbone.connect import ConnectRequest
from l4.hbone.errors import ConnectFailed, HandshakeFailed, TunnelError, TunnelReset, Unanswered
from l4.hbone.pool import HbonePool
from l4.identity.source import NoCertificate
from l4.net.copy import Copy
from l4.net.network import Network
from l4.telemetry.propagation import format_forwarded
from l4.ztunnel.carry import carry, connect_plain, drop, reset
from l4.ztunnel.node import Node
from l4.ztunnel.outbound import Address, Avoid, HboneHop, PlainHop, Refused, avoid_none, decide, same_family
from l4.ztunnel.traffic import Flow, NotDrained, labels_of

_MAX_ENDPOINTS = 3
"""Endpoints that one connection tries, each for the duration of a connection attempt."""
_MAX_REPLACED = 3
"""Unused tunnels of one connection that may be lost."""


async def outbound(
    node: Node,
    pod_uid: str,
    network: Network | None,
    pool: HbonePool,
    sock: socket.socket,
    source: Address,
    to: Address,
) -> None:
    """Carry a pod's accepted connection to its destination. Its bytes stay in the kernel until that is connected."""
    pod = node.registry.current.workloads.get(pod_uid)
    if pod is None:
        drop(node, sock, source, to, "the source workload is no longer known")
        return
    if not await _is_told(node, sock, to[0]):
        drop(node, sock, source, to, "the discovery server has not told in time what the destination is")
        return
    way = _Way(node, pod, network, pool, source, to)
    hop = way.decide()
    if isinstance(hop, Refused):
        drop(node, sock, source, to, hop.reason)
        return

    async def connect(copy: Copy) -> None:
        copy.on_unused_lost = lambda error: way.replace(copy, error)
        await way.go(copy, hop)

    await carry(node, way.flow(hop), sock, connect)


async def _is_told(node: Node, sock: socket.socket, ip: str) -> bool:
    """Whether the registry has all that is known of the destination."""
    if node.finder is None:
        return True
    try:
        return await node.finder.destination(ip)
    except asyncio.CancelledError:
        reset(sock)
        raise


class _Way:
    __slots__ = ("_network", "_node", "_pod", "_pool", "_replaced", "_source", "_to", "_tried")

    def __init__(
        self, node: Node, pod: Workload, network: Network | None, pool: HbonePool, source: Address, to: Address
    ) -> None:
        self._node = node
        self._pod = pod
        self._network = network
        self._pool = pool
        self._source = source
        self._to = to
        self._tried: set[Address] = set()
        self._replaced = 0

    def decide(self) -> HboneHop | PlainHop | Refused:
        """Return the first hop."""
        if len(self._node.reaches):
            return self._decide(self._is_avoided)
        return self._decide(avoid_none)

    def _is_avoided(self, address: Address) -> bool:
        return self._node.reaches.is_avoided(address, self._network)

    def _decide(self, avoid: Avoid) -> HboneHop | PlainHop | Refused:
        return decide(self._node.registry.current, self._pod, self._to, random(), avoid)

    async def go(self, copy: Copy, hop: HboneHop | PlainHop) -> None:
        """Connect the far side. Raises the error of the last endpoint."""
        while True:
            self._tried.add(hop.address)
            try:
                await self._connect(copy, hop)
                return
            except Unanswered:  # its destination does not respond; other endpoints would call the same one
                raise
            except (ConnectFailed, HandshakeFailed) as error:
                other = self._other()
                if other is None or copy.is_over:
                    raise
                self._node.traffic.moved(copy, self.flow(other), error)
                hop = other

    def replace(self, copy: Copy, error: Exception | None) -> bool:
        """Replace an unused far side if its HBONE connection was lost.

        A tunnel that the far side reset is not replaced: the reset is its answer.
        """
        if not isinstance(error, TunnelReset) or error.code is not None or self._replaced == _MAX_REPLACED:
            return False
        self._replaced += 1
        self._tried.clear()
        self._node.spawn(self._replace(copy, error))
        return True

    async def _replace(self, copy: Copy, lost: Exception) -> None:
        hop = self.decide()
        if isinstance(hop, Refused):
            copy.abort(lost)
            return
        self._node.traffic.moved(copy, self.flow(hop), lost)
        try:
            await self.go(copy, hop)
        except (TunnelError, NoCertificate, OSError) as error:
            copy.abort(error)
        except asyncio.CancelledError:
            copy.abort(NotDrained())
            raise

    def _other(self) -> HboneHop | PlainHop | None:
        """Return an untried endpoint, preferably one that is not known to be unreachable."""
        if len(self._tried) == _MAX_ENDPOINTS:
            return None
        for avoid in (lambda it: it in self._tried or self._is_avoided(it), self._tried.__contains__):
            hop = self._decide(avoid)
            if not isinstance(hop, Refused) and hop.address not in self._tried:
                return hop
        return None

    async def _connect(self, copy: Copy, hop: HboneHop | PlainHop) -> None:
        if hop.workload is None:  # outside the mesh there is no other endpoint, so nothing needs to be remembered
            await connect_plain(hop.address, copy.far, self._node, self._network)
            return
        reaches = self._node.reaches
        try:
            if isinstance(hop, HboneHop):
                await self._open_tunnel(copy, hop)
            else:
                with self._node.reaches.connecting(hop.address):
                    await connect_plain(hop.address, copy.far, self._node, self._network)
        except Unanswered:
            reaches.reached(hop.address)
            raise
        except (ConnectFailed, HandshakeFailed):
            reaches.failed(hop.address)
            raise
        reaches.reached(hop.address)

    async def _open_tunnel(self, copy: Copy, hop: HboneHop) -> None:
        pod, (ip, port) = self._pod, self._source
        forwarded = format_forwarded(ip, port, hop.service.hostname if hop.service is not None else "")
        request = ConnectRequest(hop.authority, pod.baggage, forwarded)
        await self._pool.connect(
            lambda: copy.far,
            certificate=self._node.certificates.get(pod.identity),
            identities=hop.identities,
            address=hop.address,
            request=request,
            local_ip=same_family(pod, hop.address[0]),
            on_slow=lambda: self._node.reaches.failed(hop.address),
        )

    def flow(self, hop: HboneHop | PlainHop) -> Flow:
        pod, workload = self._pod, hop.workload
        is_hbone = isinstance(hop, HboneHop)
        ends = self._node.traffic.known.find(
            pod.uid,
            "outbound",
            pod.metric_labels,
            pod.name,
            pod.identity,
            labels_of(workload),
            workload.name if workload is not None else "",
            workload.identity if workload is not None and is_hbone else None,
            hop.service,
            is_hbone,
        )
        authority = str(hop.authority) if isinstance(hop, HboneHop) else ""
        return Flow(ends, self._source, self._to, hop.address, authority)
