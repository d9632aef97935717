"""A driver's timers and the order of its work in a loop turn. The peer is raw frames, the transport a list."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from l4.config.settings import Settings
from l4.hbone.driver import Driver
from l4.hbone.errors import TunnelReset
from l4.hbone.tunnel import Tunnel
from l4.http2 import frames
from l4.http2.engines import Engine
from l4.http2.errors import ErrorCode
from policies.attributes import Headers, Identity
from policies.attributes import Peer as Workload
from tests.contracts.http2_engine import CONNECT, GET, Peer, data
from tests.kit.mesh import with_settings
from tests.kit.virtual_time import run_virtually
from tests.kit.wire import Wire

BOTH = pytest.mark.parametrize("engine", list(Engine))
STALL_SECONDS = 300.0
CLIENT = Workload(Identity("cluster.local", "default", "client"), "10.0.0.1", 1234)


class Sink(asyncio.Protocol):
    """Takes whatever comes, and remembers how it ended."""

    lost: Exception | None = None
    is_paused = False

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = error


@dataclass
class Served:
    """A server's driver, and the raw client on the other end of its wire."""

    driver: Driver
    wire: Wire
    client: Peer
    requests: list[tuple[int, Headers]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def give(self, data: bytes) -> None:
        self.driver.data_received(data)

    def open(self, stream_id: int) -> None:
        self.give(self.client.headers(stream_id, CONNECT))


def serve(
    engine: Engine, scenario: Callable[[Served], Coroutine[Any, Any, None]], *, window: int = 65_535, **changes: object
) -> None:
    async def served() -> None:
        settings: Settings = with_settings(**{"http2_engine": engine.value, "ping_interval_seconds": 1e9, **changes})
        wire = Wire()
        driver = Driver(
            settings,
            is_client=False,
            authenticate=lambda transport: CLIENT,
            on_request=lambda driver, stream_id, headers: it.requests.append((stream_id, headers)),
            on_refused=lambda reason: it.refused.append(reason),
        )
        it = Served(driver, wire, Peer.client_of(engine))
        driver.connection_made(wire)
        it.give(frames.PREFACE + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: window}))
        await scenario(it)
        driver.connection_lost(None)
        await turn()

    run_virtually(served())


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@BOTH
def test_a_stream_that_is_reset_in_the_same_read_is_never_told_of(engine: Engine) -> None:
    async def scenario(served: Served) -> None:
        first = served.client.headers(1, CONNECT) + frames.rst_stream_frame(1, ErrorCode.CANCEL)

        served.give(first + served.client.headers(3, CONNECT))

        assert served.requests == [(3, CONNECT)]
        assert served.driver.tunnel_count == 1

    serve(engine, scenario)


@BOTH
def test_not_even_one_that_has_sent_something_before_it_was_reset(engine: Engine) -> None:
    async def scenario(served: Served) -> None:
        reset = frames.rst_stream_frame(1, ErrorCode.CANCEL)

        served.give(served.client.headers(1, CONNECT) + data(1, b"hello") + reset)

        assert served.requests == []
        assert served.driver.tunnel_count == 0

    serve(engine, scenario)


@BOTH
def test_so_many_new_streams_have_their_turn_and_the_others_the_next(engine: Engine) -> None:
    async def scenario(served: Served) -> None:
        served.give(b"".join(served.client.headers(stream_id, CONNECT) for stream_id in range(1, 17, 2)))
        told = [len(served.requests)]

        for _ in range(3):
            await asyncio.sleep(0)
            served.give(b"")
            told.append(len(served.requests))

        assert told == [3, 6, 8, 8]
        assert [stream_id for stream_id, _ in served.requests] == list(range(1, 17, 2))

    serve(engine, scenario, http2_new_streams_per_turn=3)


@BOTH
def test_a_stream_that_is_reset_before_its_turn_is_never_told_of(engine: Engine) -> None:
    async def scenario(served: Served) -> None:
        served.give(served.client.headers(1, CONNECT) + served.client.headers(3, CONNECT))
        served.give(frames.rst_stream_frame(3, ErrorCode.CANCEL))

        await turn()

        assert [stream_id for stream_id, _ in served.requests] == [1]

    serve(engine, scenario, http2_new_streams_per_turn=1)


async def stalled(served: Served) -> Sink:
    """A tunnel on stream 1 that has more to send than its window of ten bytes takes."""
    sink = Sink()
    served.open(1)
    tunnel = served.driver.accept(1, [])
    assert tunnel is not None
    tunnel.start(sink)
    tunnel.write(bytes(100))
    await turn()
    served.wire.take()
    return sink


@BOTH
def test_a_tunnel_that_can_send_nothing_for_so_long_is_reset(engine: Engine) -> None:
    async def scenario(served: Served) -> None:
        sink = await stalled(served)

        await asyncio.sleep(STALL_SECONDS - 1)
        before = served.wire.take()
        await asyncio.sleep(2)

        assert before == []
        assert served.wire.take() == [(frames.RST_STREAM, 0, 1, ErrorCode.CANCEL.to_bytes(4))]
        assert isinstance(sink.lost, TunnelReset)
        assert served.refused == ["stall_seconds"]

    serve(engine, scenario, window=10, stall_seconds=STALL_SECONDS)


@BOTH
def test_a_tunnel_that_sends_a_byte_now_and_then_is_slow_but_not_stalled(engine: Engine) -> None:
    async def scenario(served: Served) -> None:
        sink = await stalled(served)

        for _ in range(5):
            await asyncio.sleep(STALL_SECONDS - 1)
            served.give(frames.window_update_frame(1, 1))
        await turn()
        progressed = served.wire.take()
        await asyncio.sleep(STALL_SECONDS + 1)

        assert progressed == [(frames.DATA, 0, 1, b"\0")] * 5
        assert [kind for kind, *_ in served.wire.take()] == [frames.RST_STREAM]
        assert sink.lost is not None

    serve(engine, scenario, window=10, stall_seconds=STALL_SECONDS)


@BOTH
def test_windows_that_open_elsewhere_do_not_keep_a_stalled_tunnel(engine: Engine) -> None:
    async def scenario(served: Served) -> None:
        await stalled(served)

        for _ in range(4):
            await asyncio.sleep(STALL_SECONDS / 3)
            served.give(frames.window_update_frame(0, 1000))

        assert served.refused == ["stall_seconds"]

    serve(engine, scenario, window=10, stall_seconds=STALL_SECONDS)


@BOTH
def test_a_tunnel_with_nothing_to_send_may_be_silent_for_ever(engine: Engine) -> None:
    async def scenario(served: Served) -> None:
        sink = await stalled(served)

        served.give(frames.window_update_frame(1, 1000))
        await asyncio.sleep(10 * STALL_SECONDS)

        assert [kind for kind, *_ in served.wire.take()] == [frames.DATA]
        assert sink.lost is None
        assert served.refused == []

    serve(engine, scenario, window=10, stall_seconds=STALL_SECONDS)


@BOTH
@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (lambda peer: data(1, b"x"), "malformed_http"),
        (lambda peer: peer.headers(1, [*GET, (b"connection", b"close")]), "malformed_http"),
        (lambda peer: peer.headers(1, [*CONNECT, (b"x", b"y" * 70_000)]), "hbone_header_list"),
        (lambda peer: peer.headers(1, [*CONNECT, *[(b"x", b"y")] * 101]), "hbone_header_fields"),
        (lambda peer: frames.frame(frames.PING, 0, 0, bytes(8)) * 11, "http2_pings"),
        (lambda peer: b"".join(peer.headers(it, CONNECT) for it in range(1, 7, 2)), "hbone_max_streams"),
    ],
    ids=["frame", "head", "bytes", "fields", "flood", "streams"],
)
def test_every_mistake_is_counted_under_one_reason(engine: Engine, wire: Callable[[Peer], bytes], reason: str) -> None:
    async def scenario(served: Served) -> None:
        served.give(wire(served.client))

        assert served.refused == [reason]

    serve(engine, scenario, http2_pings=10, hbone_max_streams=2)


@BOTH
def test_a_peer_that_asks_and_does_not_read_is_cut_before_it_costs_memory(engine: Engine) -> None:
    async def scenario(served: Served) -> None:
        served.driver.pause_writing()  # the transport is full

        for _ in range(300):
            served.give(frames.frame(frames.PING, 0, 0, bytes(8)) * 10)
            await asyncio.sleep(0.2)

        assert served.refused == ["http2_queued_control_frames"]
        assert served.wire.is_closed
        assert len(served.wire.written) < 20_000

    serve(engine, scenario)


@BOTH
def test_what_is_to_be_written_soon_is_asked_for_once_at_the_end_of_the_turn(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        tunnel, says = _tunnel(it), [b"one"]

        for _ in range(3):
            tunnel.write_soon(lambda: b" ".join(says))
        says += [b"two"]
        at_once = _sent(it)
        await turn()

        assert (at_once, _sent(it)) == ([], [b"one two"])

    serve(engine, scenario)


@BOTH
@pytest.mark.parametrize("end", [lambda it: it.close(), lambda it: it.write_eof(), lambda it: it.abort()])
def test_what_is_to_be_written_soon_is_sent_before_the_tunnel_ends(
    engine: Engine, end: Callable[[Tunnel], None]
) -> None:
    async def scenario(it: Served) -> None:
        tunnel = _tunnel(it)

        tunnel.write_soon(lambda: b"bye")
        end(tunnel)
        tunnel.write_soon(lambda: b"too late")
        await turn()

        assert _sent(it) == [b"bye"]

    serve(engine, scenario)


@BOTH
def test_a_protocol_that_writes_soon_is_told_to_pause_while_nothing_can_be_sent(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        tunnel, sink = _tunnel(it), Sink()
        tunnel.set_protocol(sink)
        it.driver.pause_writing()  # the transport is full
        turns = 0
        while not sink.is_paused:
            tunnel.write_soon(lambda: bytes(1000))
            await turn()
            turns += 1

        it.driver.resume_writing()
        await turn()

        assert turns == 11  # more than 10,000 bytes
        assert not sink.is_paused
        assert sum(map(len, _sent(it))) == 11_000

    serve(engine, scenario, buffered_bytes=10_000, resume_bytes=5_000)


@BOTH
@pytest.mark.parametrize("is_soon", [False, True], ids=["now", "soon"])
def test_a_full_transport_gets_no_more_though_many_tunnels_write_at_once(engine: Engine, is_soon: bool) -> None:
    async def scenario(it: Served) -> None:
        tunnels = [_tunnel(it, stream_id) for stream_id in range(1, 41, 2)]
        it.give(frames.window_update_frame(0, 4 << 20))
        await turn()
        it.wire.take()
        sinks = [Sink() for _ in tunnels]

        it.wire.on_write = lambda: it.driver.pause_writing() if len(it.wire.written) > 256_000 else None
        for tunnel, sink in zip(tunnels, sinks, strict=True):
            tunnel.start(sink)
            data = bytes([tunnel.stream_id]) * 64_000
            if is_soon:
                tunnel.write_soon(partial(bytes, data))
            else:
                tunnel.write(data)
        await turn()
        held = len(it.wire.written)
        it.wire.on_write = lambda: None
        it.driver.resume_writing()
        await turn()

        assert 256_000 < held < 500_000
        sent = _sent(it)
        assert b"".join(sent) == b"".join(bytes([it.stream_id]) * 64_000 for it in tunnels)

    serve(engine, scenario, window=1 << 20)


def _tunnel(it: Served, stream_id: int = 1) -> Tunnel:
    it.open(stream_id)
    tunnel = it.driver.accept(stream_id, [])
    assert tunnel is not None
    return tunnel


def _sent(it: Served) -> list[bytes]:
    return [payload for kind, _, _, payload in it.wire.take() if kind == frames.DATA and payload]


# -- the end -------------------------------------------------------------------------------------------------------


def goaways(wire: Wire) -> tuple[list[int], bytes]:
    """The last streams that were named, and what answers the PINGs beside them."""
    written = wire.take()
    named = [int.from_bytes(payload[:4]) for kind, _, _, payload in written if kind == frames.GOAWAY]
    pings = (payload for kind, flags, _, payload in written if kind == frames.PING and not flags)
    return named, b"".join(frames.frame(frames.PING, 1, 0, payload) for payload in pings)


@BOTH
def test_streams_are_counted_when_the_peer_has_heard_of_the_end(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        it.wire.take()
        it.driver.drain(is_stopping=True)
        await asyncio.sleep(2)
        first, pong = goaways(it.wire)
        it.open(1)  # the client had not heard yet
        it.give(pong)
        await turn()
        last, _ = goaways(it.wire)

        assert first == [2**31 - 1]
        assert [stream for stream, _ in it.requests] == [1]
        assert last == [1]

    serve(engine, scenario)


@BOTH
def test_a_frozen_peer_is_cut_while_we_drain_as_soon_as_it_is_known_to_be(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        it.open(1)
        it.driver.accept(1, [])
        it.driver.drain(is_stopping=True)
        await asyncio.sleep(9.9)
        was_there = not it.wire.is_aborted
        await asyncio.sleep(0.2)

        assert was_there
        assert it.wire.is_aborted

    serve(engine, scenario, drain_silence_seconds=10)


@BOTH
def test_a_slow_peer_that_still_reads_is_not_taken_for_a_frozen_one(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        it.open(1)
        it.driver.accept(1, [])
        it.driver.drain(is_stopping=True)
        for _ in range(20):
            await asyncio.sleep(4)
            it.give(frames.window_update_frame(0, 1))

        assert not it.wire.is_aborted

    serve(engine, scenario, drain_silence_seconds=10)


@BOTH
def test_a_tunnel_whose_window_stays_shut_is_cut_sooner_while_we_drain(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        it.open(1)
        tunnel, sink = it.driver.accept(1, []), Sink()
        assert tunnel is not None
        tunnel.start(sink)
        tunnel.write(b"x" * 10)
        await turn()
        it.wire.take()
        it.driver.drain(is_stopping=True)
        await turn()
        it.give(goaways(it.wire)[1])
        await asyncio.sleep(9.9)
        was_there = sink.lost is None
        await asyncio.sleep(0.2)

        assert was_there
        assert isinstance(sink.lost, TunnelReset)
        assert it.wire.is_closed

    serve(engine, scenario, window=0, drain_silence_seconds=10)


@BOTH
def test_a_connection_that_only_makes_room_for_a_new_one_leaves_its_peer_the_usual_time(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        it.open(1)
        tunnel, sink = it.driver.accept(1, []), Sink()
        assert tunnel is not None
        tunnel.start(sink)
        tunnel.write(b"x" * 10)
        await turn()
        it.wire.take()
        it.driver.drain()
        await turn()
        it.give(goaways(it.wire)[1])
        await asyncio.sleep(60)
        was_there = sink.lost is None

        it.driver.drain(is_stopping=True)
        await turn()
        it.give(goaways(it.wire)[1])
        await asyncio.sleep(11)

        assert was_there
        assert isinstance(sink.lost, TunnelReset)

    serve(engine, scenario, window=0, drain_silence_seconds=10)
