"""The way of a connection out of a pod: decide, connect, and go to another endpoint where nothing has been delivered.

That is certain while no connection or tunnel stands, and afterwards until a byte has passed either way: a tunnel that
nobody has used is replaced when its HBONE connection is lost. What an application answers, and what a policy refuses,
is an answer.
"""

import asyncio
import socket
from random import random
from typing import assert_never

from l4.discovery.workload import Workload
from l4.hbone.connect import ConnectRequest
from l4.hbone.errors import ConnectFailed, HandshakeFailed, TunnelError, TunnelReset, Unanswered
from l4.hbone.pool import HbonePool
from l4.identity.source import NoCertificate
from l4.net.copy import Copy
from l4.telemetry.propagation import format_baggage, format_forwarded
from l4.ztunnel.carry import carry, connect_plain, drop
from l4.ztunnel.node import Node
from l4.ztunnel.outbound import Address, Avoid, HboneHop, PlainHop, Refused, avoid_none, decide, same_family
from l4.ztunnel.traffic import Flow, NotDrained, labels_of

_MAX_ENDPOINTS = 3
"""That one connection tries, each for as long as a connection attempt may take."""
_MAX_REPLACED = 3
"""Tunnels of one connection that may be lost unused."""


async def outbound(
    node: Node, pod_uid: str, pool: HbonePool, sock: socket.socket, source: Address, to: Address
) -> None:
    """Carry a pod's accepted connection to where it was going; its bytes stay in the kernel until the way stands."""
    pod = node.registry.current.workloads.get(pod_uid)
    if pod is None:
        drop(node, sock, source, to, "the source workload is no longer known")
        return
    way = _Way(node, pod, pool, source, to)
    hop = way.decide()
    if isinstance(hop, Refused):
        drop(node, sock, source, to, hop.reason)
        return

    async def connect(copy: Copy) -> None:
        copy.on_unused_lost = lambda error: way.replace(copy, error)
        await way.go(copy, hop)

    await carry(node, way.flow(hop), sock, connect)


class _Way:
    def __init__(self, node: Node, pod: Workload, pool: HbonePool, source: Address, to: Address) -> None:
        self._node = node
        self._pod = pod
        self._pool = pool
        self._source = source
        self._to = to
        self._tried: set[Address] = set()
        self._replaced = 0

    def decide(self) -> HboneHop | PlainHop | Refused:
        """Where to go first."""
        reaches = self._node.reaches
        return self._decide(reaches.is_avoided if len(reaches) else avoid_none)

    def _decide(self, avoid: Avoid) -> HboneHop | PlainHop | Refused:
        return decide(self._node.registry.current, self._pod, self._to, random(), avoid)

    async def go(self, copy: Copy, hop: HboneHop | PlainHop) -> None:
        """Connect the far side. Raises what kept the last endpoint from it."""
        while True:
            self._tried.add(hop.address)
            try:
                await self._connect(copy, hop)
                return
            except Unanswered:  # somebody behind it is silent: others would ask him, too
                raise
            except (ConnectFailed, HandshakeFailed) as error:
                other = self._other()
                if other is None or copy.is_over:
                    raise
                self._node.traffic.moved(copy, self.flow(other), error)
                hop = other

    def replace(self, copy: Copy, error: Exception | None) -> bool:
        """The far side is lost and nobody has used it: connect another one, if it was the HBONE connection that broke;
        a tunnel that the far side has reset is its answer."""
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
        """An endpoint that has not been tried; rather one that is not known to be unreachable."""
        if len(self._tried) == _MAX_ENDPOINTS:
            return None
        reaches = self._node.reaches
        for avoid in (lambda it: it in self._tried or reaches.is_avoided(it), self._tried.__contains__):
            hop = self._decide(avoid)
            if not isinstance(hop, Refused) and hop.address not in self._tried:
                return hop
        return None

    async def _connect(self, copy: Copy, hop: HboneHop | PlainHop) -> None:
        if hop.workload is None:  # outside of the mesh: there is no other, so nothing needs to be remembered
            await connect_plain(hop.address, copy.far, self._node.hbone)
            return
        reaches = self._node.reaches
        try:
            await self._connect_to(copy, hop)
        except Unanswered:
            reaches.reached(hop.address)
            raise
        except (ConnectFailed, HandshakeFailed):
            reaches.failed(hop.address)
            raise
        reaches.reached(hop.address)

    async def _connect_to(self, copy: Copy, hop: HboneHop | PlainHop) -> None:
        match hop:
            case HboneHop():
                await self._open_tunnel(copy, hop)
            case PlainHop():
                with self._node.reaches.connecting(hop.address):
                    await connect_plain(hop.address, copy.far, self._node.hbone)
            case _:
                assert_never(hop)

    async def _open_tunnel(self, copy: Copy, hop: HboneHop) -> None:
        pod = self._pod
        request = ConnectRequest(
            hop.authority,
            baggage=format_baggage(pod),
            forwarded=format_forwarded(*self._source, hop.service.hostname if hop.service else ""),
        )
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
        pod, workload, is_hbone = self._pod, hop.workload, isinstance(hop, HboneHop)
        return Flow(
            pod_uid=pod.uid,
            direction="outbound",
            source_address=self._source,
            source=pod.metric_labels,
            source_pod=pod.name,
            source_identity=pod.identity,
            destination_address=hop.address,
            authority=str(hop.authority) if isinstance(hop, HboneHop) else "",
            destination=labels_of(workload),
            destination_pod=workload.name if workload else "",
            destination_identity=workload.identity if workload and is_hbone else None,
            service=hop.service,
            is_mutual_tls=is_hbone,
        )
