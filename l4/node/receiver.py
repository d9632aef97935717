"""The ztunnel's side of `zds`: connects to the node's agent and follows the pods that it announces.

Pods are still served while there is no connection. The next connection begins with a snapshot, and what it does not
mention is dropped.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from l4.net.network import Network
from l4.node import packets, zds
from l4.node.packets import BadPacket, Packets
from l4.node.zds import Add, Delete, Keep, ProtocolError, SnapshotSent

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.01
_MAX_PAUSE_SECONDS = 15.0
_MAX_ERROR = 500


class Served(Protocol):
    """The pods that the ztunnel serves."""

    def add(self, announced: Add, network: Network) -> str:
        """Serve a pod, and own `network`. Returns why it is not served yet, or an empty text."""

    def remove(self, uid: str) -> None: ...

    def uids(self) -> set[str]: ...

    def lack(self) -> str:
        """Return which pods are not served yet, or an empty text."""


class Receiver:
    """`concern` receives a sentence while the snapshot or a pod is missing, and an empty text otherwise."""

    def __init__(self, path: Path, served: Served, concern: Callable[[str], None]) -> None:
        self._path = path
        self._served = served
        self._concern = concern
        self._has_snapshot = False

    async def follow(self) -> None:
        """Connect again and again, until cancelled."""
        pause, told = _FIRST_PAUSE_SECONDS, ""
        self._concern(f"the node's agent at {self._path} has not announced its pods yet")
        while True:
            try:
                await self._session()
            except (OSError, BadPacket, ProtocolError) as error:
                if self._has_snapshot:  # the session was a good one
                    pause = _FIRST_PAUSE_SECONDS
                self._has_snapshot = False
                if (sentence := f"the node's agent at {self._path} announces nothing: {error}") != told:
                    log.warning("%s", sentence)
                told = sentence
                self._concern(sentence)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def report(self) -> None:
        """Tell the concern again: a pod may have become served meanwhile."""
        if self._has_snapshot:
            self._concern(self._served.lack())

    async def _session(self) -> None:
        connection = packets.connect(self._path)
        try:
            await connection.send(zds.HELLO)
            await self._take_all(connection)
        finally:
            connection.close()

    async def _take_all(self, connection: Packets) -> None:
        mentioned: set[str] = set()
        while True:
            try:
                data, fds = await connection.receive()
                try:
                    request = zds.decode_request(data, fds)
                    if self._has_snapshot and isinstance(request, Keep | SnapshotSent):
                        raise ProtocolError("the snapshot has already been sent")
                except ProtocolError:
                    packets.close_all(fds)
                    raise
            except (BadPacket, ProtocolError) as error:
                await connection.send(zds.encode_ack(str(error)))
                raise
            why = ""
            match request:
                case Add(uid):
                    mentioned.add(uid)
                    why = self._served.add(request, Network(fds[0]))
                case Keep(uid):
                    mentioned.add(uid)
                case Delete(uid):
                    mentioned.discard(uid)
                    self._served.remove(uid)
                case SnapshotSent():
                    for uid in self._served.uids() - mentioned:
                        self._served.remove(uid)
                    self._has_snapshot = True
                    log.info("the node's agent has announced %d pods", len(mentioned))
            self.report()
            await connection.send(zds.encode_ack(why[:_MAX_ERROR]))
