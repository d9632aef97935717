"""A ztunnel with real pods on loopback addresses, built from its parts."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

from l4.config.holder import Holder
from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.discovery.workload import Workload
from l4.identity.files import FolderStore
from l4.telemetry.access_log import AccessLog
from l4.ztunnel.capture import OwnAddresses
from l4.ztunnel.metrics import ztunnel_metrics
from l4.ztunnel.node import Node
from l4.ztunnel.pods import Pods
from l4.ztunnel.traffic import Traffic
from tests.kit.certificates import MeshPki
from tests.kit.workloads import LOOPBACK, NODE, pod, registry, service

HBONE_PORT = 15008

_blocks = count(int(LOOPBACK.network_address), 256)
"""A block of addresses for each test."""


def new_block() -> int:
    """Return the number before the first address of a block that no other test uses."""
    return next(_blocks)


class World:
    """A ztunnel with the pods client and server. The server echoes, and adds a line at the end of its caller's data."""

    def __init__(self, folder: Path, settings: Settings, *, has_revocations: bool = False) -> None:
        self._block = new_block()
        self.pki = MeshPki(folder)
        self.vip = self.address(100)
        self.entry = (self.address(200), 80)
        self.client = pod("client", self.address(1), capture=f"{self.entry[0]}:80={self.vip}:80")
        self.server = pod("server", self.address(2))
        for it in (self.client, self.server):
            self.pki.write(it.identity)
        self.log_path = folder / "access.log"
        self.metrics = ztunnel_metrics("test")
        self.log = AccessLog(str(self.log_path), flush_seconds=0.01)
        revocations = self.pki.revoke() if has_revocations else None
        self.store = FolderStore(folder, self.pki.bundle_path, revocations, poll_seconds=0.01)
        self.node = Node(Holder(Registry()), self.store, Traffic(self.metrics, self.log), settings)
        self.pods = Pods(self.node, NODE, OwnAddresses(HBONE_PORT))

    def address(self, host: int) -> str:
        return str(IPv4Address(self._block + host))

    def known(self, *more: Workload, server: Workload | None = None) -> Registry:
        server = server or self.server
        echoing = service("echo", self.vip, ports={80: 8080}, pods=[server])
        return registry(self.client, server, echoing, *more)

    def apply(self, known: Registry) -> None:
        self.node.registry.swap(known)
        self.pods.update(known)

    def lines(self) -> list[str]:
        self.log.close()
        return self.log_path.read_text().splitlines()

    def counted(self, family: str, reporter: str) -> dict[str, int]:
        """Return the values of a counter, by response flag."""
        text = self.metrics.render("")[0].decode()
        pattern = rf'^{family}_total{{reporter="{reporter}",.*response_flags="([^"]*)".*}} (\d+)$'
        return {flag: int(value) for flag, value in re.findall(pattern, text, re.MULTILINE)}


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server's application."""
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"|end")
    writer.close()


@asynccontextmanager
async def world(
    folder: Path, settings: Settings | None = None, *, has_revocations: bool = False
) -> AsyncIterator[World]:
    it = World(folder, settings or Settings(), has_revocations=has_revocations)
    app = await asyncio.start_server(echo, it.server.addresses[0], 8080)
    try:
        yield it
    finally:
        await it.pods.drain(0)
        await asyncio.gather(*it.node.tasks, return_exceptions=True)
        it.log.close()
        app.close()


async def ask(address: tuple[str, int], data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
