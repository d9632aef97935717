"""Attacks on an HBONE port by a client with a valid certificate, over real sockets and real TLS.

An innocent tunnel on another connection is not affected, and nothing is left when an attack is over.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.hbone.errors import TunnelError
from l4.hbone.handshakes import Handshakes
from l4.http2 import frames
from l4.http2.engines import Engine
from l4.http2.errors import ErrorCode
from l4.net.capacity import Capacity
from tests.contracts.http2_engine import CONNECT, GET, Peer, data, split
from tests.kit.aio import run
from tests.kit.mesh import settled, with_settings
from tests.l4.hbone.test_hbone import Lab, pool_of, raw_client

BOTH = pytest.mark.parametrize("engine", list(Engine))


def rapid_reset(peer: Peer) -> bytes:
    return b"".join(
        peer.headers(stream_id, CONNECT) + frames.rst_stream_frame(stream_id, ErrorCode.CANCEL)
        for stream_id in range(1, 600, 2)
    )


def made_you_reset(peer: Peer) -> bytes:
    return b"".join(
        peer.headers(stream_id, CONNECT) + frames.window_update_frame(stream_id, frames.MAX_WINDOW)
        for stream_id in range(1, 300, 2)
    )


def endless_head(peer: Peer) -> bytes:
    return frames.frame(frames.HEADERS, 0, 1, b"\x82") + frames.frame(frames.CONTINUATION, 0, 1, b"\x84") * 100


def empty_continuations(peer: Peer) -> bytes:
    return frames.frame(frames.HEADERS, 0, 1, b"\x82") + frames.frame(frames.CONTINUATION, 0, 1) * 100


def unread_pings(peer: Peer) -> bytes:
    return frames.frame(frames.PING, 0, 0, bytes(8)) * 5000


def settings_flood(peer: Peer) -> bytes:
    return frames.settings_frame({}) * 200


def empty_data(peer: Peer) -> bytes:
    return peer.headers(1, CONNECT) + data(1, b"") * 100


def tiny_data(peer: Peer) -> bytes:
    return peer.headers(1, CONNECT) + data(1, b"x") * 11_000


def priorities(peer: Peer) -> bytes:
    return frames.frame(frames.PRIORITY, 0, 3, bytes(5)) * 200


def window_updates(peer: Peer) -> bytes:
    return frames.window_update_frame(0, 1) * 100


@BOTH
@pytest.mark.parametrize(
    ("attack", "reasons"),
    [
        (rapid_reset, {"http2_premature_resets"}),
        (made_you_reset, {"http2_own_resets"}),
        (endless_head, {"http2_head_frames"}),
        (empty_continuations, {"http2_consecutive_empty_frames"}),
        (unread_pings, {"http2_pings", "http2_queued_control_frames"}),
        (settings_flood, {"http2_settings_frames"}),
        (empty_data, {"http2_consecutive_empty_frames"}),
        (tiny_data, {"http2_tiny_data_frames"}),
        (priorities, {"http2_priority_frames"}),
        (window_updates, {"http2_window_updates"}),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_an_attacker_is_cut_and_an_innocent_tunnel_goes_on(
    tmp_path: Path, engine: Engine, attack: Callable[[Peer], bytes], reasons: set[str]
) -> None:
    async def scenario() -> None:
        pace = 100  # of tiny frames: a busy machine sends no flood of them in time
        lab = Lab(tmp_path, with_settings(http2_engine=engine.value, http2_tiny_data_frames_per_second=pace))
        async with lab.server() as server, pool_of(lab.settings) as pool:
            reader, writer = await lab.connect(pool)
            asked = len(lab.incoming)

            async with raw_client(lab, silence_seconds=10) as exchange:
                answer = await exchange(attack(Peer.client_of(engine)))
                await settled(lambda: server.connection_count == 1)
            writer.write(b"still here")

            assert await reader.readexactly(10) == b"still here"
            assert server.tunnel_count == 1
            assert len(lab.incoming) - asked <= 200
            assert {reason for reason in lab.refused if reason != "malformed_http"} <= reasons
            assert reasons & set(lab.refused)
            codes = [int.from_bytes(payload[4:8]) for kind, _, _, payload in split(answer) if kind == frames.GOAWAY]
            assert codes == [ErrorCode.ENHANCE_YOUR_CALM]
            writer.close()

    run(scenario())


@BOTH
def test_no_stream_of_a_rapid_reset_is_asked_about(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(http2_engine=engine.value))
        wire = rapid_reset(Peer.client_of(engine))
        assert len(wire) < 16_384  # one TLS record: one read

        async with lab.server(), raw_client(lab) as exchange:
            await exchange(wire)

        assert lab.incoming == []

    run(scenario())


@BOTH
def test_a_malformed_head_ends_a_connection_on_which_only_proxies_speak(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(http2_engine=engine.value))
        async with lab.server(), raw_client(lab) as exchange:
            answer = await exchange(Peer.client_of(engine).headers(1, [*GET, (b"connection", b"close")]))

        codes = [int.from_bytes(payload[4:8]) for kind, _, _, payload in split(answer) if kind == frames.GOAWAY]
        assert codes == [ErrorCode.PROTOCOL_ERROR]
        assert lab.refused == ["malformed_http"]

    run(scenario())


def test_a_connect_that_asks_for_no_tunnel_is_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server(), raw_client(lab) as exchange:
            await exchange(Peer.client_of(Engine.EXPRESS).headers(1, GET))

        assert lab.refused == ["malformed_http"]

    run(scenario())


def test_as_many_connections_as_are_allowed_are_served_and_the_surplus_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(max_connections=1))
        async with lab.server() as server, pool_of(lab.settings) as first, pool_of(lab.settings) as second:
            _, writer = await lab.connect(first)
            with pytest.raises(TunnelError):
                await lab.connect(second)
            refused = list(lab.refused)

            writer.close()
            await first.close()
            await settled(lambda: server.connection_count == 0)
            _, writer = await lab.connect(second)

            assert refused == lab.refused == ["max_connections"]
            writer.close()

    run(scenario())


def test_a_connection_that_never_becomes_one_gives_its_place_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(max_connections=1, handshake_seconds=0.2))
        async with lab.server(), pool_of(lab.settings) as pool:
            with socket.create_connection(lab.address):
                await settled(lambda: lab.refused == ["handshake_seconds"])
            with socket.create_connection(lab.address) as talkative:
                talkative.sendall(b"GET / HTTP/1.1\r\n\r\n")
                await settled(lambda: lab.refused == ["handshake_seconds", "tls_handshake"])

            _, writer = await lab.connect(pool)

            writer.close()

    run(scenario())


def test_a_peer_of_another_trust_domain_is_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        stranger = lab.pki.certificate(lab.client)
        lab.settings = with_settings(trust_domain="elsewhere.example")
        async with lab.server() as server, pool_of(Settings()) as pool:
            with pytest.raises(TunnelError):
                await lab.connect(pool, certificate=stranger)
            await settled(lambda: server.connection_count == 0)

        assert lab.refused == ["untrusted_peer"]

    run(scenario())


def test_the_surplus_of_handshakes_waits_and_is_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(max_handshakes=1))
        async with lab.server(), pool_of(lab.settings) as pool:
            with socket.create_connection(lab.address):
                await settled(lambda: lab.refused == ["max_handshakes"])
                waiting = asyncio.ensure_future(lab.connect(pool))
                await asyncio.sleep(0)
                assert not waiting.done()

            _, writer = await waiting

            assert set(lab.refused) == {"max_handshakes", "tls_handshake"}
            writer.close()

    run(scenario())


def test_no_more_is_accepted_than_files_can_be_opened_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (20, 20))
    capacity = Capacity(50_000)

    taken = [capacity.take() for _ in range(9)]
    capacity.give_back()

    assert taken == [True] * 8 + [False]
    assert [capacity.take(), capacity.take()] == [True, False]


def test_one_address_that_begins_too_many_handshakes_is_turned_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = with_settings(max_handshakes=4, handshakes_per_source=1, handshakes_per_source_per_second=0)
        lab = Lab(tmp_path, settings)
        async with lab.server(), pool_of(settings) as pool:
            silent = [socket.create_connection(lab.address) for _ in range(3)]
            await settled(lambda: len(lab.refused) == 0)
            surplus = socket.create_connection(lab.address)
            await settled(lambda: lab.refused == ["handshakes_per_source"])
            for it in (*silent, surplus):
                it.close()
            await settled(lambda: lab.refused.count("tls_handshake") == 3)

            _, writer = await lab.connect(pool)

            writer.close()

    run(scenario())


def test_silent_connections_from_one_address_hold_up_nobody_for_long(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = with_settings(max_handshakes=16, handshake_seconds=60.0)
        lab = Lab(tmp_path, settings)
        async with lab.server(), pool_of(settings) as pool:
            before = len(os.listdir("/proc/self/fd"))
            silent = [socket.create_connection(lab.address, source_address=("127.0.0.9", 0)) for _ in range(100)]
            began = asyncio.get_running_loop().time()

            _, writer = await lab.connect(pool)

            assert asyncio.get_running_loop().time() - began < 20  # not a minute, and then one more
            assert lab.refused.count("handshakes_per_source") > 20
            writer.close()
            for it in silent:
                it.close()
            await settled(lambda: len(os.listdir("/proc/self/fd")) < before + 10, 10)

    run(scenario())


def test_who_holds_more_than_its_share_of_handshakes_loses_those_that_get_nowhere() -> None:
    async def scenario() -> None:
        handshakes = Handshakes(16)
        tasks = [asyncio.ensure_future(asyncio.sleep(60)) for _ in range(16)]
        for number, task in enumerate(tasks[:15]):
            handshakes.begin(task, "10.0.0.9" if number % 2 else f"10.0.0.{100 + number}", float(number))
        assert handshakes.stalled(100.0) == []
        handshakes.begin(tasks[15], "10.0.0.9", 15.0)

        assert handshakes.stalled(7.9) == [tasks[1], tasks[3], tasks[5]]
        assert handshakes.stalled(100.0) == tasks[1:13:2], "but for its share"
        for task in tasks:
            task.cancel()

    run(scenario())


def test_many_addresses_take_nothing_from_each_other() -> None:
    async def scenario() -> None:
        handshakes = Handshakes(16)
        tasks = [asyncio.ensure_future(asyncio.sleep(60)) for _ in range(16)]
        for number, task in enumerate(tasks):
            handshakes.begin(task, f"10.0.0.{number // 2}", 0.0)

        assert handshakes.stalled(100.0) == []
        for task in tasks:
            task.cancel()

    run(scenario())


def test_nobody_is_let_in_while_memory_is_exhausted() -> None:
    capacity = Capacity(1)
    capacity.is_shut = True

    assert not capacity.take()
    assert capacity.limit == "memory_limit_bytes"
    capacity.is_shut = False
    assert [capacity.take(), capacity.take()] == [True, False]
    assert capacity.limit == "max_connections"


@BOTH
def test_an_attacker_who_goes_on_sending_hears_why_it_is_cut(tmp_path: Path, engine: Engine) -> None:
    """With bytes unread, a socket that is closed resets its connection, and what was written last is lost."""

    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(http2_engine=engine.value))
        async with lab.server() as server, raw_client(lab, silence_seconds=10) as exchange:
            answer = await exchange(settings_flood(Peer.client_of(engine)) + data(1, b"x" * 16_000) * 1000)
            await settled(lambda: server.connection_count == 0)

        codes = [int.from_bytes(payload[4:8]) for kind, _, _, payload in split(answer) if kind == frames.GOAWAY]
        assert codes == [ErrorCode.ENHANCE_YOUR_CALM]

    run(scenario())
