"""Every limit of the flood guard, over both engines: the allowed number passes, one more is refused with its name.

The attacks are frames of a raw peer. The clock is the peer's, and moves only when a test moves it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import pytest

from l4.config.settings import Settings
from l4.hbone.limits import hbone_limits_of, hbone_reason
from l4.hbone.settings import HboneSettings
from l4.http2 import frames
from l4.http2.connection import Limits
from l4.http2.engines import Engine
from l4.http2.errors import ErrorCode
from l4.http2.events import ConnectionFailed, DataReceived, Event, RequestReceived, StreamReset
from l4.http2.flood_limits import FloodLimits
from policies.attributes import Headers
from tests.contracts.http2_engine import CONNECT, GET, OK, Peer, data

BOTH = pytest.mark.parametrize("engine", list(Engine))
MALFORMED: Headers = [*GET, (b"connection", b"close")]
PING = frames.frame(frames.PING, 0, 0, bytes(8))
PRIORITY = frames.frame(frames.PRIORITY, 0, 3, bytes([0, 0, 0, 1, 7]))
ALL = FloodLimits(
    http2_premature_resets=20,
    http2_own_resets=10,
    http2_queued_control_frames=30,
    http2_pings=50,
    http2_settings_frames=20,
    http2_empty_frames=40,
    http2_tiny_data_frames=200,
    http2_priority_frames=10,
)
"""Small, so that no test takes long; what isn't here has its default."""


def ids() -> Iterator[int]:
    return iter(range(1, 1 << 20, 2))


def rapid_resets(peer: Peer, count: int) -> Iterator[bytes]:
    for stream_id, _ in zip(ids(), range(count), strict=False):
        yield peer.headers(stream_id, CONNECT) + frames.rst_stream_frame(stream_id, ErrorCode.CANCEL)


def malformed_heads(peer: Peer, count: int) -> Iterator[bytes]:
    for stream_id, _ in zip(ids(), range(count), strict=False):
        yield peer.headers(stream_id, MALFORMED)


def window_overflows(peer: Peer, count: int) -> Iterator[bytes]:
    for stream_id, _ in zip(ids(), range(count), strict=False):
        yield peer.headers(stream_id, GET, end_stream=True)
        yield frames.window_update_frame(stream_id, frames.MAX_WINDOW)


def head_in_pieces(peer: Peer, count: int) -> Iterator[bytes]:
    block = peer.encoder.encode([*GET, (b"x", b"y" * 200)])
    yield frames.frame(frames.HEADERS, 0, 1, block[:1])
    for place in range(1, count - 1):
        yield frames.frame(frames.CONTINUATION, 0, 1, block[place : place + 1])
    yield frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[count - 1 :])


def pings(peer: Peer, count: int) -> Iterator[bytes]:
    yield from [PING] * count


def unread_pings(peer: Peer, count: int) -> Iterator[bytes]:
    yield PING * count


def settings_frames(peer: Peer, count: int) -> Iterator[bytes]:
    yield from [frames.settings_frame({})] * count


def empty_in_a_row(peer: Peer, count: int) -> Iterator[bytes]:
    yield peer.headers(1, CONNECT) + data(1, b"") * count


def padded_empty_in_a_row(peer: Peer, count: int) -> Iterator[bytes]:
    yield peer.headers(1, CONNECT) + data(1, b"", padding=20) * count


def empty_between_others(peer: Peer, count: int) -> Iterator[bytes]:
    yield peer.headers(1, CONNECT)
    yield from [data(1, b"") + data(1, bytes(100))] * count


def tiny_data(peer: Peer, count: int) -> Iterator[bytes]:
    yield peer.headers(1, CONNECT) + data(1, bytes(63)) * count


def padded_tiny_data(peer: Peer, count: int) -> Iterator[bytes]:
    yield peer.headers(1, CONNECT) + data(1, bytes(10), padding=52) * count


def priorities(peer: Peer, count: int) -> Iterator[bytes]:
    yield PRIORITY * count


def window_updates(peer: Peer, count: int) -> Iterator[bytes]:
    yield peer.headers(1, CONNECT) + frames.window_update_frame(0, 1) * count


@dataclass(frozen=True)
class Attack:
    reason: str
    write: Callable[[Peer, int], Iterator[bytes]]
    allowed: int
    is_unread: bool = False  # the peer does not read what it is answered


ATTACKS = [
    Attack("http2_premature_resets", rapid_resets, ALL.http2_premature_resets),
    Attack("http2_own_resets", malformed_heads, ALL.http2_own_resets),
    Attack("http2_own_resets", window_overflows, ALL.http2_own_resets),
    Attack("http2_head_frames", head_in_pieces, ALL.http2_head_frames),
    Attack("http2_queued_control_frames", unread_pings, ALL.http2_queued_control_frames, is_unread=True),
    Attack("http2_pings", pings, ALL.http2_pings),
    Attack("http2_settings_frames", settings_frames, ALL.http2_settings_frames),
    Attack("http2_consecutive_empty_frames", empty_in_a_row, ALL.http2_consecutive_empty_frames),
    Attack("http2_consecutive_empty_frames", padded_empty_in_a_row, ALL.http2_consecutive_empty_frames),
    Attack("http2_empty_frames", empty_between_others, ALL.http2_empty_frames),
    Attack("http2_tiny_data_frames", tiny_data, ALL.http2_tiny_data_frames),
    Attack("http2_tiny_data_frames", padded_tiny_data, ALL.http2_tiny_data_frames),
    Attack("http2_priority_frames", priorities, ALL.http2_priority_frames),
    Attack("http2_window_updates", window_updates, 5 + 2),
]
EACH = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.write.__name__)


def victim(engine: Engine, flood: FloodLimits = ALL, **limits: int | bool) -> Peer:
    """A server whose handshake is long past, so that no counter has anything in it."""
    peer = Peer.client_of(engine, Limits(flood=flood, **limits))  # type: ignore[arg-type]
    peer.now = 1000.0
    return peer


def carry_out(attack: Attack, peer: Peer, count: int) -> list[Event]:
    events: list[Event] = []
    for wire in attack.write(peer, count):
        for event in peer.give(wire):
            events.append(event)
            if isinstance(event, DataReceived):
                peer.connection.consume(event.stream_id, event.flow_length)
        if not attack.is_unread and not failures(events):
            peer.take()
    return events


def goaway_codes(peer: Peer) -> list[int]:
    return [int.from_bytes(payload[4:8]) for kind, _, _, payload in peer.take() if kind == frames.GOAWAY]


def failures(events: list[Event]) -> list[tuple[ErrorCode, str]]:
    return [(event.code, event.reason) for event in events if isinstance(event, ConnectionFailed)]


@BOTH
@EACH
def test_as_much_as_a_limit_allows_passes(engine: Engine, attack: Attack) -> None:
    peer = victim(engine)

    events = carry_out(attack, peer, attack.allowed)

    assert failures(events) == []


@BOTH
@EACH
def test_one_more_than_a_limit_allows_ends_the_connection_by_its_name(engine: Engine, attack: Attack) -> None:
    peer = victim(engine)

    events = carry_out(attack, peer, attack.allowed + 1)

    assert failures(events) == [(ErrorCode.ENHANCE_YOUR_CALM, attack.reason)]
    assert goaway_codes(peer) == [ErrorCode.ENHANCE_YOUR_CALM]
    assert peer.give(PING) == []


@BOTH
@EACH
def test_another_connection_is_not_touched_by_an_attack(engine: Engine, attack: Attack) -> None:
    innocent, attacker = victim(engine), victim(engine)
    innocent.open()

    carry_out(attack, attacker, attack.allowed + 1)

    assert innocent.give(data(1, b"alive")) == [DataReceived(1, b"alive", 5, False)]


@BOTH
@pytest.mark.parametrize(
    ("reason", "write", "burst", "seconds", "earned"),
    [
        ("http2_premature_resets", rapid_resets, ALL.http2_premature_resets, 0.1, 3),
        ("http2_own_resets", malformed_heads, ALL.http2_own_resets, 0.5, 5),
        ("http2_pings", pings, ALL.http2_pings, 1.0, 5),
        ("http2_settings_frames", settings_frames, ALL.http2_settings_frames, 1.0, 2),
        ("http2_empty_frames", empty_between_others, ALL.http2_empty_frames, 3.0, 2),
    ],
)
@pytest.mark.parametrize("surplus", [0, 1])
def test_with_time_a_limit_allows_as_much_as_its_rate_says(
    engine: Engine,
    reason: str,
    write: Callable[[Peer, int], Iterator[bytes]],
    burst: int,
    seconds: float,
    earned: int,
    surplus: int,
) -> None:
    peer = victim(engine)
    wires = list(write(peer, burst + earned + surplus))
    later = len(wires) - earned - surplus

    before = [event for wire in wires[:later] for event in (peer.give(wire), peer.take())[0]]
    peer.now += seconds
    after = [event for wire in wires[later:] for event in (peer.give(wire), peer.take())[0]]

    assert failures(before) == []
    assert failures(after) == ([(ErrorCode.ENHANCE_YOUR_CALM, reason)] if surplus else [])


@BOTH
def test_tiny_data_at_a_walking_pace_is_no_flood(engine: Engine) -> None:
    peer = victim(engine)
    events = peer.open()

    for _ in range(1000):
        peer.now += 1.1 / ALL.http2_tiny_data_frames_per_second
        events += peer.give(data(1, b"x"))

    assert failures(events) == []


@BOTH
def test_large_data_at_any_pace_is_no_flood(engine: Engine) -> None:
    peer = victim(engine)
    events = peer.open()

    for _ in range(ALL.http2_tiny_data_frames * 2):
        events += peer.give(data(1, bytes(ALL.http2_tiny_data_bytes)))

    assert failures(events) == []


@BOTH
def test_tiny_data_that_answers_ours_is_no_flood(engine: Engine) -> None:
    peer = victim(engine)
    events = peer.open(GET)
    peer.connection.send_headers(1, OK, False)

    for _ in range(ALL.http2_tiny_data_frames * 3):
        peer.connection.send_data(1, b"x", False)
        events += peer.give(data(1, b"x"))
        peer.take()

    assert failures(events) == []


@BOTH
def test_tiny_data_of_a_server_is_no_flood_because_we_asked_for_it(engine: Engine) -> None:
    peer = Peer.server_of(engine, Limits(flood=ALL))
    peer.connection.open_stream(GET, True)
    events = peer.open(OK)

    for _ in range(ALL.http2_tiny_data_frames * 3):
        events += peer.give(data(1, b"x"))

    assert failures(events) == []


@BOTH
@pytest.mark.parametrize("is_answered", [True, False])
def test_a_reset_counts_only_while_its_stream_is_young_and_unanswered(engine: Engine, is_answered: bool) -> None:
    peer = victim(engine)
    events: list[Event] = []

    for stream_id in range(1, 200, 2):
        events += peer.open(stream_id=stream_id)
        if is_answered:
            peer.connection.send_headers(stream_id, OK, False)
        else:
            peer.now += ALL.http2_premature_seconds
        events += peer.give(frames.rst_stream_frame(stream_id, ErrorCode.CANCEL))

    assert failures(events) == []


@BOTH
def test_an_informational_head_does_not_make_a_stream_answered(engine: Engine) -> None:
    peer = victim(engine)
    events: list[Event] = []

    for stream_id in range(1, 2 * ALL.http2_premature_resets + 2, 2):
        events += peer.open(GET, stream_id=stream_id)
        peer.connection.send_headers(stream_id, [(b":status", b"103")], False)
        events += peer.give(frames.rst_stream_frame(stream_id, ErrorCode.CANCEL))

    assert failures(events) == [(ErrorCode.ENHANCE_YOUR_CALM, "http2_premature_resets")]


@BOTH
def test_a_servers_resets_are_no_attack_on_its_client(engine: Engine) -> None:
    peer = Peer.server_of(engine, Limits(flood=ALL))

    for _ in range(ALL.http2_premature_resets * 2):
        stream_id = peer.connection.open_stream(GET, True)
        events = peer.give(frames.rst_stream_frame(stream_id, ErrorCode.REFUSED_STREAM))

        assert [type(event) for event in events] == [StreamReset]


@BOTH
def test_windows_may_be_opened_for_what_we_send(engine: Engine) -> None:
    peer = victim(engine)
    events = peer.open()
    peer.connection.send_headers(1, OK, False)

    for _ in range(20):
        peer.connection.send_data(1, bytes(100), False)
        events += peer.give(frames.window_update_frame(0, 5) * 20)

    assert failures(events) == []


@BOTH
def test_one_large_frame_may_be_taken_in_many_small_windows(engine: Engine) -> None:
    peer = Peer.client_of(
        engine,
        Limits(flood=ALL),
        settings={frames.MAX_FRAME_SIZE: 1 << 20, frames.INITIAL_WINDOW_SIZE: 1 << 20},
    )
    events = peer.open() + peer.give(frames.window_update_frame(0, 1 << 20))
    peer.connection.send_headers(1, OK, False)

    assert peer.connection.send_data(1, bytes(1 << 20), False) == 1 << 20
    events += peer.give(frames.window_update_frame(0, 1024) * 1024)

    assert failures(events) == []


@BOTH
def test_streams_that_end_unread_are_no_more_than_may_be_open(engine: Engine) -> None:
    peer = victim(engine, max_concurrent_streams=10)
    events: list[Event] = []

    for stream_id in range(1, 40, 2):
        events += peer.open(GET, stream_id=stream_id, end_stream=True)
        if not failures(events):
            peer.connection.send_headers(stream_id, OK, True)

    assert failures(events) == [(ErrorCode.ENHANCE_YOUR_CALM, "http2_queued_control_frames")]
    assert len([event for event in events if isinstance(event, RequestReceived)]) == 11


# -- heads -----------------------------------------------------------------------------------------------------------


def exactly(count: int) -> Headers:
    return [*GET, *[(b"x-%d" % number, b"y") for number in range(count)]]


def of_size(size: int) -> Headers:
    used = sum(len(name) + len(value) + 32 for name, value in [*GET, (b"x", b"")])
    return [*GET, (b"x", b"y" * (size - used))]


@BOTH
@pytest.mark.parametrize(
    ("allowed", "refused", "reason"),
    [
        (exactly(100), exactly(101), "max_header_fields"),
        (of_size(61_440), of_size(61_441), "max_header_list_size"),
        (of_size(61_440), of_size(80_000), "max_header_list_size"),
    ],
    ids=["fields", "bytes", "many bytes"],
)
@pytest.mark.parametrize("end_stream", [True, False])
def test_10_5_1_a_head_too_large_is_answered_431_and_its_neighbours_go_on(
    engine: Engine, allowed: Headers, refused: Headers, reason: str, end_stream: bool
) -> None:
    peer = victim(engine, max_frame_size=1 << 20)
    peer.open(stream_id=1)
    assert peer.open(allowed, stream_id=3, end_stream=end_stream) == [RequestReceived(3, allowed, end_stream)]
    peer.take()

    events = peer.open(refused, stream_id=5, end_stream=end_stream)
    answer, *reset = peer.take()

    assert [(type(it), it.stream_id, it.code, it.reason) for it in events if isinstance(it, StreamReset)] == [
        (StreamReset, 5, ErrorCode.NO_ERROR, reason)
    ]
    assert peer.decoder.decode(answer[3], raw=True) == [(b":status", b"431")]
    assert answer[1] & frames.END_STREAM
    assert reset == ([] if end_stream else [(frames.RST_STREAM, 0, 5, bytes(4))])
    assert peer.give(data(1, b"alive")) == [DataReceived(1, b"alive", 5, False)]
    assert peer.open(allowed, stream_id=7) == [RequestReceived(7, allowed, False)]


@BOTH
def test_a_response_head_too_large_resets_its_stream(engine: Engine) -> None:
    peer = Peer.server_of(engine)
    first, second = peer.connection.open_stream(GET, True), peer.connection.open_stream(GET, True)

    events = peer.give(peer.headers(first, [*OK, *[(b"x", b"y")] * 101]))

    assert [(it.stream_id, it.reason) for it in events if isinstance(it, StreamReset)] == [(first, "max_header_fields")]
    assert [type(event) for event in peer.give(peer.headers(second, OK))] != []


@BOTH
def test_a_bomb_of_references_ends_the_connection_before_it_is_unpacked(engine: Engine) -> None:
    peer = victim(engine)
    block = peer.encoder.encode([*GET, (b"x", b"y" * 3900)])  # the newest entry of the table has index 62

    events = peer.give(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block + b"\xbe" * 4000))

    assert failures(events) in (
        [(ErrorCode.COMPRESSION_ERROR, "max_header_list_size")],
        [(ErrorCode.ENHANCE_YOUR_CALM, "max_header_list_size")],  # the library's code
    )


@BOTH
def test_an_encoded_head_that_is_far_too_large_ends_the_connection_while_it_arrives(engine: Engine) -> None:
    peer = victim(engine, max_header_list_size=1000)
    pieces = frames.frame(frames.HEADERS, 0, 1, bytes(1000)) + frames.frame(frames.CONTINUATION, 0, 1, bytes(1001))

    events = peer.give(pieces)

    assert failures(events) == [(ErrorCode.ENHANCE_YOUR_CALM, "max_header_list_size")]


@pytest.mark.parametrize(
    "headers",
    [
        [(b":method", b"GET /x HTTP/1.1"), *GET[1:]],
        [GET[0], GET[1], (b":path", b"/a b"), GET[3]],
        [GET[0], GET[1], (b":path", b"a"), GET[3]],
        [GET[0], GET[1], (b":path", b"*"), GET[3]],
        [GET[0], (b":scheme", b"javascript"), *GET[2:]],
        [*GET[:3], (b":authority", b"user@reviews")],
        [*GET[:3], (b":authority", b"reviews/evil")],
        [*GET, (b"Upper", b"x")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"a", b"b\x01")],
        [*GET, (b"a", b"b\r\nc: d")],
        [*GET, (b"a", b" b")],
        [*GET, (b":late", b"x")],
        [*GET, (b"host", b"another")],
        [*GET, (b"content-length", b"5"), (b"content-length", b"5")],
    ],
)
@BOTH
def test_8_1_1_a_malformed_head_ends_its_stream_or_where_only_proxies_speak_the_connection(
    engine: Engine, headers: Headers
) -> None:
    shared, hbone = victim(engine), victim(engine, is_malformed_head_fatal=True)
    shared.open()
    hbone.open()

    told = shared.open(headers, stream_id=3)
    fatal = hbone.open(headers, stream_id=3)

    assert [(type(event), getattr(event, "code", None)) for event in told] == [(StreamReset, ErrorCode.PROTOCOL_ERROR)]
    assert shared.give(data(1, b"alive")) == [DataReceived(1, b"alive", 5, False)]
    assert failures(fatal) == [(ErrorCode.PROTOCOL_ERROR, "")]


@BOTH
def test_one_stream_too_many_is_refused_by_the_limits_name(engine: Engine) -> None:
    peer = victim(engine, max_concurrent_streams=1)
    peer.open()

    (event,) = peer.open(stream_id=3)

    assert isinstance(event, StreamReset | ConnectionFailed)
    assert event.reason == "max_concurrent_streams"


@pytest.mark.parametrize(
    "provoke",
    [
        lambda peer, it: peer.headers(it, GET) + frames.window_update_frame(it, 0),
        lambda peer, it: peer.headers(it, GET, end_stream=True) + data(it, b"x"),
        lambda peer, it: peer.headers(it, [*GET, (b"content-length", b"1")]) + data(it, b"xx"),
        lambda peer, it: peer.headers(it, GET) + frames.frame(frames.PRIORITY, 0, it, it.to_bytes(4) + b"\0"),
        lambda peer, it: peer.headers(it, GET) + peer.headers(it, [(b"x", b"y")]),
    ],
    ids=["window update of zero", "after END_STREAM", "content-length", "depends on itself", "second head"],
)
def test_whatever_makes_us_reset_a_stream_is_counted(provoke: Callable[[Peer, int], bytes]) -> None:
    """The library ends the connection at each of these at once."""
    peer = victim(Engine.EXPRESS)

    events = [
        event
        for stream_id, _ in zip(ids(), range(ALL.http2_own_resets + 1), strict=False)
        for event in peer.give(provoke(peer, stream_id))
    ]

    assert len([event for event in events if isinstance(event, StreamReset)]) == ALL.http2_own_resets
    assert failures(events) == [(ErrorCode.ENHANCE_YOUR_CALM, "http2_own_resets")]


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [field.name for field in fields(FloodLimits)])
def test_every_setting_arrives_at_the_guard(name: str) -> None:
    settings = Settings.from_environment({name.upper(): "7"}, [FloodLimits, HboneSettings])

    assert getattr(hbone_limits_of(settings).flood, name) == 7


@pytest.mark.parametrize("reason", ["max_concurrent_streams", "max_header_list_size", "max_header_fields"])
def test_a_refusal_is_counted_under_the_name_of_a_setting(reason: str) -> None:
    assert hasattr(HboneSettings(), hbone_reason(reason))


def test_a_malformed_message_is_counted_as_such() -> None:
    assert hbone_reason("") == "malformed_http"
