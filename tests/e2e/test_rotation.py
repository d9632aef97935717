"""Certificates and roots change under load, and no request notices: a real process, its files, and its clients."""

import asyncio
from collections import Counter
from pathlib import Path

from l4.config.settings import Settings
from l4.hbone.connect import Authority, ConnectRequest
from l4.hbone.pool import HbonePool
from l4.identity.files import load
from l4.identity.source import WorkloadCertificate
from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

REQUEST = b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
CLIENTS = 2


class Rotation:
    """`authority` signs what is new; the process reads its files in the folder of the first one."""

    def __init__(self, it: WaypointProcess, folder: Path) -> None:
        self.outcomes: Counter[str] = Counter()
        self.rotations = 0
        self._it = it
        self._folder = folder
        self._authority = it.pki
        self._bundle = it.pki.root_pem
        self._client = self._new_client()
        self._turns = [0] * CLIENTS

    async def clients(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._load(number))

    async def _load(self, number: int) -> None:
        """Each turn has a connection of its own, so that handshakes are part of the load."""
        while True:
            self._turns[number] += 1
            pool, certificate = HbonePool(Settings()), self._client
            try:
                for _ in range(5):
                    self.outcomes[await self._ask(pool, certificate)] += 1
            finally:
                await pool.close()

    async def _ask(self, pool: HbonePool, certificate: WorkloadCertificate) -> str:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        it = self._it
        try:
            transport = await pool.connect(
                lambda: protocol,
                certificate=certificate,
                identities=frozenset({it.pki.identity("default", "waypoint")}),
                address=(it.ip, 15008),
                request=ConnectRequest(Authority.parse(it.authority.encode())),
            )
            transport.write(REQUEST)
            line = (await reader.readline()).decode()
            transport.close()
        except Exception as error:  # whatever it is, it is an outcome that must not be
            return repr(error)
        return line

    async def leaf(self) -> None:
        """A new certificate of the waypoint, and one of its clients."""
        await self._written("default.waypoint", self._authority)
        self._client = self._new_client()
        self.rotations += 1

    async def root(self) -> None:
        """Trust both, then be signed by the new one, then trust it alone; each when everybody has done the last."""
        new = MeshPki(self._folder / f"root-{self.rotations}")
        await self._trust(self._authority.root_pem + new.root_pem)
        self._authority = new
        self._client = self._new_client()
        await self._everybody()
        await self._written("default.waypoint", new)
        await self._trust(new.root_pem)
        self._client = self._new_client()
        await self._everybody()
        self.rotations += 1

    async def _trust(self, bundle: bytes) -> None:
        before = self._renewals()
        self._bundle = bundle
        _replace(self._it.pki.bundle_path, bundle)
        await settled(lambda: self._renewals() > before, 20)

    async def _written(self, name: str, authority: MeshPki) -> None:
        before = self._renewals()
        pair = authority.leaf([str(self._it.pki.identity(*name.split(".")))])
        chain = self._it.pki.folder / f"{name}.pem"
        _replace(chain.with_suffix(".key"), pair.key_pem)
        _replace(chain, pair.chain_pem)
        await settled(lambda: self._renewals() > before, 20)

    async def _everybody(self) -> None:
        before = list(self._turns)
        await settled(lambda: all(now > then + 1 for now, then in zip(self._turns, before, strict=True)), 20)

    def _renewals(self) -> int:
        return (self._folder / "log").read_text().count(" renewed, valid until ")

    def _new_client(self) -> WorkloadCertificate:
        authority = self._authority
        _replace(authority.folder / "bundle.pem", self._bundle)
        chain = authority.write(authority.identity("default", "client"))
        return WorkloadCertificate(load(chain, chain.with_suffix(".key"), authority.folder / "bundle.pem"))


def _replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


async def rotate(folder: Path, seconds: float) -> Rotation:
    """Rotate once at least, and go on for so long."""
    loop = asyncio.get_running_loop()
    with (folder / "log").open("wb") as log:
        async with (
            waypoint_process(folder, log=log) as it,
            origin(it.pod, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")),
        ):
            rotation, end = Rotation(it, folder), loop.time() + seconds
            load = asyncio.create_task(rotation.clients())
            try:
                while not rotation.rotations or loop.time() < end:
                    await rotation.leaf()
                    await rotation.root()
            finally:
                load.cancel()
                await asyncio.gather(load, return_exceptions=True)
            return rotation


def test_certificates_and_roots_that_change_under_load_fail_no_request(tmp_path: Path) -> None:
    rotation = run(rotate(tmp_path, 0))

    assert rotation.outcomes.keys() == {"HTTP/1.1 200 OK\r\n"}


def test_another_identitys_certificate_is_not_taken_and_shown_where_readiness_is_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            waypoint_process(tmp_path, DRAIN_DELAY_SECONDS="0") as it,
            origin(it.pod, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")),
        ):
            own, other = it.pki.identity("default", "waypoint"), it.pki.identity("default", "client")
            pair = it.pki.leaf([str(other)])

            it.pki.write(own, pair)
            await _says(it, f"now contains the certificate of {other}")
            reader, writer = await it.open()
            writer.write(REQUEST)
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()

            it.pki.write(own)
            await _says(it, "")

    run(scenario())


async def _says(it: WaypointProcess, concern: str) -> None:
    """Until it is ready, with this concern, or with none."""
    async with asyncio.timeout(10):
        while True:
            _, said = await it.readiness()
            if said.startswith("ready\n") and (concern in said if concern else said == "ready\n"):
                return
            await asyncio.sleep(0.1)
