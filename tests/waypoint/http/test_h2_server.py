"""What the front of HTTP/2 refuses by itself, and under which name: raw frames in, reasons out."""

from collections.abc import Callable

import pytest

from l4.http2 import frames
from l4.http2.connection import Engine
from policies.attributes import ResponseHead
from tests.contracts.http2_engine import GET, Peer
from tests.kit.mesh import with_settings
from tests.kit.virtual_time import run_virtually
from tests.kit.wire import Wire
from waypoint.errors import BadRequest, ExchangeError
from waypoint.http.h2_server import Http2Server

BOTH = pytest.mark.parametrize("engine", list(Engine))
PING = frames.frame(frames.PING, 0, 0, bytes(8))
UPGRADE = [*GET, (b"connection", b"close")]


def refused_by_front(engine: Engine, *reads: bytes, is_full: bool = False, **changes: object) -> tuple[list[str], Wire]:
    """The reasons for which a front refuses what it reads, and what it writes; its transport may be full."""
    reasons: list[str] = []
    wire = Wire()

    def refuse(error: ExchangeError) -> tuple[ResponseHead, bytes]:
        assert isinstance(error, BadRequest)
        reasons.append(error.limit)
        return ResponseHead(400, []), b""

    async def scenario() -> None:
        settings = with_settings(http2_engine=engine.value, **changes)
        server = Http2Server(settings, lambda *it: pytest.fail("no request was to begin"), refuse, lambda it: None)
        server.connection_made(wire)
        server.data_received(frames.PREFACE + frames.settings_frame({}))
        wire.take()
        if is_full:
            server.pause_writing()
        for data in reads:
            server.data_received(data)
        server.connection_lost(None)

    run_virtually(scenario())
    return reasons, wire


@BOTH
@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (lambda peer: PING * 11, "http2_pings"),
        (lambda peer: frames.frame(frames.DATA, 0, 1, b"x"), "malformed_http"),
        (lambda peer: peer.headers(1, UPGRADE), "malformed_http"),
        (lambda peer: peer.headers(1, [*GET, (b"x", b"y" * 1000)]), "head_bytes"),
        (lambda peer: peer.headers(1, [*GET, *[(b"x", b"y")] * 6]), "head_fields"),
    ],
    ids=["flood", "frame", "head", "bytes", "fields"],
)
def test_a_mistake_is_counted_under_the_name_of_its_setting(
    engine: Engine, wire: Callable[[Peer], bytes], reason: str
) -> None:
    reasons, _ = refused_by_front(engine, wire(Peer.client_of(engine)), http2_pings=10, head_bytes=1000, head_fields=5)

    assert reasons == [reason]


@BOTH
def test_a_client_that_asks_and_does_not_read_is_cut_before_it_costs_memory(engine: Engine) -> None:
    reasons, wire = refused_by_front(engine, *[PING] * 50, is_full=True, http2_queued_control_frames=20)

    assert reasons == ["http2_queued_control_frames"]
    assert wire.is_closed
    assert len(wire.take()) < 25
