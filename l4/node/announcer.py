"""The agent's side of `zds`: announces the node's pods to every ztunnel that connects.

During a hand-over there are two: new pods are announced to the latest, and removals to both.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from l4.net.network import Network
from l4.net.tasks import Tasks
from l4.node import packets, zds
from l4.node.packets import BadPacket, Packets
from l4.node.zds import Add, Delete, ProtocolError, Request, SnapshotSent

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 5.0
_RETRY_SECONDS = 0.5
"""When a ztunnel could not serve a pod, often because its certificate is under way."""
_PAUSE_SECONDS = 0.2
"""Between two connections that are accepted, so that a ztunnel that fails at once does not keep us busy."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A pod and its network namespace, which must stay open until the pod is withdrawn and for a while after."""

    add: Add
    network: Network


@dataclass(slots=True, eq=False)
class _Ztunnel:
    connection: Packets
    sent: dict[str, Announced] = field(default_factory=dict)
    """What it has been told."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why it does not serve a pod that it has been told of."""
    has_snapshot: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Announcer:
    """`on_served` receives the UID of a pod that a ztunnel serves from now on."""

    def __init__(self, path: Path, on_served: Callable[[str], None] = lambda uid: None) -> None:
        self._path = path
        self._on_served = on_served
        self._pods: dict[str, Announced] = {}
        self._ztunnels: list[_Ztunnel] = []
        self._sessions = Tasks()

    @property
    def ztunnel_count(self) -> int:
        return len(self._ztunnels)

    def announce(self, pod: Announced) -> None:
        self._pods[pod.add.uid] = pod
        self._changed()

    def withdraw(self, uid: str) -> None:
        if self._pods.pop(uid, None) is not None:
            self._changed()

    def is_served(self, uid: str) -> bool:
        """Whether the latest ztunnel has acknowledged the pod as it is announced now."""
        pod = self._pods.get(uid)
        return pod is not None and bool(self._ztunnels) and self._serves(self._ztunnels[-1], pod)

    async def serve(self) -> None:
        """Accept ztunnels until cancelled. Raises OSError if the socket cannot be opened."""
        sock = packets.listen(self._path)
        try:
            while True:
                self._sessions.spawn(self._session(Packets(await _accept(sock))))
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            sock.close()
            await self._sessions.close()

    def _changed(self) -> None:
        for ztunnel in self._ztunnels:
            ztunnel.changed.set()

    def _serves(self, ztunnel: _Ztunnel, pod: Announced) -> bool:
        return ztunnel.sent.get(pod.add.uid) == pod and pod.add.uid not in ztunnel.refused

    async def _session(self, connection: Packets) -> None:
        ztunnel = _Ztunnel(connection)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                data, fds = await connection.receive()
            packets.close_all(fds)
            zds.check_hello(data)
            self._ztunnels.append(ztunnel)
            log.info("a ztunnel has connected")
            await self._tell(ztunnel)
        except (OSError, BadPacket, ProtocolError) as error:  # TimeoutError is an OSError
            log.warning("the connection of a ztunnel has ended: %s", error or type(error).__name__)
        finally:
            if ztunnel in self._ztunnels:
                self._ztunnels.remove(ztunnel)
                self._changed()  # the one before is the latest again
            connection.close()

    async def _tell(self, ztunnel: _Ztunnel) -> None:
        """Send differences between the pods and what the ztunnel knows, for as long as it is connected."""
        while True:
            ztunnel.changed.clear()
            for uid in [it for it in ztunnel.sent if it not in self._pods]:
                del ztunnel.sent[uid]
                ztunnel.refused.pop(uid, None)
                await self._ask(ztunnel, Delete(uid))
            if ztunnel is self._ztunnels[-1]:
                for pod in list(self._pods.values()):
                    await self._add(ztunnel, pod)
            if not ztunnel.has_snapshot:
                ztunnel.has_snapshot = True
                await self._ask(ztunnel, SnapshotSent())
            if ztunnel.changed.is_set():
                continue
            await self._rest(ztunnel)

    async def _rest(self, ztunnel: _Ztunnel) -> None:
        """Wait for a change, or for the time to try again. Notice a ztunnel that goes away."""
        waits = [asyncio.create_task(it) for it in (ztunnel.changed.wait(), ztunnel.connection.receive())]
        _, received = waits
        try:
            seconds = _RETRY_SECONDS if ztunnel.refused else None
            done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if received in done:
                received.result()
                raise ProtocolError("the ztunnel answers what it was not asked")
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _add(self, ztunnel: _Ztunnel, pod: Announced) -> None:
        uid = pod.add.uid
        if self._serves(ztunnel, pod) or self._pods.get(uid) is not pod:
            return
        ztunnel.sent[uid] = pod
        error = await self._ask(ztunnel, pod.add, pod.network.fd)
        if error:
            place = f"{pod.add.namespace}/{pod.add.name}"
            level = logging.DEBUG if ztunnel.refused.get(uid) == error else logging.WARNING
            log.log(level, "the ztunnel does not serve pod %s yet: %s", place, error)
            ztunnel.refused[uid] = error
        else:
            ztunnel.refused.pop(uid, None)
            self._on_served(uid)

    async def _ask(self, ztunnel: _Ztunnel, request: Request, *fds: int) -> str:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await ztunnel.connection.send(zds.encode_request(request), fds)
            data, strays = await ztunnel.connection.receive()
        packets.close_all(strays)
        return zds.decode_ack(data)


async def _accept(sock: socket.socket) -> socket.socket:
    loop = asyncio.get_running_loop()
    accepted, _ = await loop.sock_accept(sock)
    return accepted
