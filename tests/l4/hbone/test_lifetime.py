"""Connections and the end of the certificates with which they were made, over real sockets and real TLS."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.hbone import lifetime
from l4.hbone.errors import TunnelReset
from l4.hbone.lifetime import Lifetime
from l4.http2 import frames
from l4.http2.engines import Engine
from l4.http2.errors import ErrorCode
from policies.attributes import Identity
from tests.contracts.http2_engine import CONNECT, Peer, split
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.l4.hbone.test_hbone import Lab, pool_of

CLIENT, SERVER = (Identity("cluster.local", "default", name) for name in ("client", "server"))
WHOSE = pytest.mark.parametrize("brief", [CLIENT, SERVER], ids=["the client's", "the server's"])
SHORT = timedelta(seconds=4)  # whole seconds count: it may be one less


def _lab(folder: Path, brief: Identity) -> tuple[Lab, float]:
    """One in which the certificate of `brief` soon expires; and when."""
    lab = Lab(folder, Settings())
    return lab, lab.pki.certificate(brief, ends=SHORT).expires_at


@WHOSE
def test_a_client_is_told_to_go_and_is_cut_when_a_certificate_has_expired(tmp_path: Path, brief: Identity) -> None:
    async def scenario() -> None:
        lab, expires_at = _lab(tmp_path, brief)
        halfway = (time.time() + expires_at) / 2
        async with lab.server():
            reader, writer = await asyncio.open_connection(*lab.address, ssl=lab.client_context(), server_hostname="")
            writer.write(frames.PREFACE + frames.settings_frame({}))
            writer.write(Peer.client_of(Engine.EXPRESS).headers(1, CONNECT))
            heard, told_at = b"", 0.0
            while data := await reader.read(1 << 16):
                heard += data
                goaways = [payload for kind, _, _, payload in split(heard) if kind == frames.GOAWAY]
                told_at = told_at or (time.time() if goaways else 0.0)
            cut_at = time.time()
            writer.close()

            assert halfway - 0.1 < told_at < expires_at - 1
            assert expires_at - 0.05 < cut_at
            assert {int.from_bytes(payload[4:8]) for payload in goaways} == {ErrorCode.NO_ERROR}
            assert lab.refused == ["expired_certificate"]

    run(scenario())


@WHOSE
def test_a_pool_makes_a_new_connection_in_time_and_cuts_what_is_left_of_the_old_one(
    tmp_path: Path, brief: Identity
) -> None:
    async def scenario() -> None:
        lab, expires_at = _lab(tmp_path, brief)
        halfway = (time.time() + expires_at) / 2
        refused: list[str] = []
        async with lab.server(), pool_of(lab.settings) as pool:
            pool._on_refused = refused.append
            reader, writer = await lab.connect(pool)
            driver = writer.transport._carrier  # type: ignore[attr-defined]
            await settled(lambda: driver.is_draining, 10)
            told_at = time.time()

            with pytest.raises(TunnelReset):
                await reader.read()

            assert halfway - 0.1 < told_at < expires_at - 1
            assert time.time() > expires_at - 0.05
            assert pool.connection_count == 0

    run(scenario())


def test_a_peer_that_reads_nothing_is_cut_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab, expires_at = _lab(tmp_path, CLIENT)
        async with lab.server() as server:
            reader, writer = await asyncio.open_connection(*lab.address, ssl=lab.client_context(), server_hostname="")
            script = Peer.client_of(Engine.EXPRESS)
            writer.write(frames.PREFACE + frames.settings_frame({}) + script.headers(1, CONNECT))
            await settled(lambda: server.tunnel_count == 1)
            writer.transport.pause_reading()
            lab.incoming[0]._driver.transport.write(bytes(20 << 20))  # more than sockets hold

            await settled(lambda: server.connection_count == 0, 10)

            assert time.time() < expires_at + 4
            writer.transport.abort()
            del reader

    run(scenario())


def test_the_wall_clock_decides_however_it_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "_LOOK_SECONDS", 0.01)
    now, told = 1000.0, list[str]()
    monkeypatch.setattr(lifetime.time, "time", lambda: now)

    async def scenario() -> None:
        nonlocal now
        it = Lifetime(5000.0, lambda: told.append("drain"), lambda: told.append("cut"))
        now = 2990.0
        await asyncio.sleep(0.05)
        assert told == []

        now = 3500.0
        await settled(lambda: told == ["drain"])
        now = 5000.0
        await settled(lambda: told == ["drain", "cut"])
        await asyncio.sleep(0.05)
        assert told == ["drain", "cut"]
        it.end()

    run(scenario())


def test_a_connection_that_is_gone_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[str]()

    async def scenario() -> None:
        it = Lifetime(time.time() + 0.05, lambda: told.append("drain"), lambda: told.append("cut"))
        it.end()
        await asyncio.sleep(0.1)

    run(scenario())
    assert told == []
