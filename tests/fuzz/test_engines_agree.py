"""Both HTTP/2 engines are given the same bytes, good, mutated and cut anywhere, and must say the same.

What they may differ in is listed in `differences.md`. `FUZZ_SECONDS` makes it run for longer (`make fuzz`).
"""

import os
import time
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l4.http2 import frames
from l4.http2.connection import Limits
from l4.http2.engines import Engine
from l4.http2.events import ConnectionFailed, DataReceived, Event, RequestReceived, StreamReset
from tests.contracts.http2_engine import CONNECT, GET, Peer, data

LIMITS = Limits(max_concurrent_streams=10, stream_window=65_535, connection_window=1 << 20)
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
OFTEN = settings(max_examples=300)

KINDS = [kind for kind in range(12) if kind != 10]  # the library knows ALTSVC, which is nothing to us

stream_ids = st.sampled_from([1, 3, 5, 7, 9])
payloads = st.binary(max_size=300)
heads = st.sampled_from(
    [
        CONNECT,
        GET,
        [*GET, (b"content-length", b"3")],
        [*GET, (b"te", b"trailers")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"Upper", b"x")],
        [*GET, (b"x", b"\x01")],
        [GET[0], GET[1], (b":path", b"/a b"), GET[3]],
        [*GET, *[(b"x", b"y")] * 101],
        [(b":method", b"CONNECT"), (b":authority", b"a:1"), (b":path", b"/")],
        [(b":method", b"GET")],
        [(b"x", b"y")],
    ]
)

Step = tuple[str, tuple[object, ...]]
steps = st.one_of(
    st.tuples(st.just("headers"), st.tuples(stream_ids, heads, st.booleans())),
    st.tuples(st.just("data"), st.tuples(stream_ids, payloads, st.booleans(), st.none() | st.integers(0, 50))),
    st.tuples(st.just("burst"), st.tuples(stream_ids, st.lists(payloads, min_size=2, max_size=5))),
    st.tuples(st.just("reset"), st.tuples(stream_ids)),
    st.tuples(st.just("window"), st.tuples(stream_ids | st.just(0), st.sampled_from([0, 1, 1000, 2**31 - 1]))),
    st.tuples(st.just("ping"), st.tuples(st.binary(min_size=8, max_size=8))),
    st.tuples(st.just("settings"), st.tuples(st.sampled_from([0, 100, 65_535, 1 << 20]))),
    st.tuples(st.just("goaway"), st.tuples(stream_ids)),
    st.tuples(st.just("unknown"), st.tuples(payloads)),
    st.tuples(
        st.just("raw"), st.tuples(st.sampled_from(KINDS), st.integers(0, 255), stream_ids | st.just(0), payloads)
    ),
)


def written(peer: Peer, step: Step) -> bytes:
    """A step as bytes, written with this peer's own HPACK state."""
    match step:
        case ("headers", (int(stream_id), list(headers), bool(end_stream))):
            return peer.headers(stream_id, headers, end_stream=end_stream)
        case ("data", (int(stream_id), bytes(payload), bool(end_stream), padding)):
            assert padding is None or isinstance(padding, int)
            return data(stream_id, payload, end_stream=end_stream, padding=padding)
        case ("burst", (int(stream_id), list(payloads))):
            return b"".join(data(stream_id, payload) for payload in payloads)
        case ("reset", (int(stream_id),)):
            return frames.frame(frames.RST_STREAM, 0, stream_id, bytes([0, 0, 0, 8]))
        case ("window", (int(stream_id), int(increment))):
            return frames.window_update_frame(stream_id, increment)
        case ("ping", (bytes(payload),)):
            return frames.frame(frames.PING, 0, 0, payload)
        case ("settings", (int(window),)):
            return frames.settings_frame({frames.INITIAL_WINDOW_SIZE: window})
        case ("goaway", (int(last),)):
            return frames.frame(frames.GOAWAY, 0, 0, last.to_bytes(4) + bytes(4))
        case ("unknown", (bytes(payload),)):
            return frames.frame(0xEE, 0, 0, payload)
        case ("raw", (int(kind), int(flags), int(stream_id), bytes(payload))):
            return frames.frame(kind, flags, stream_id, payload)
    raise AssertionError(step)


def is_mistake(event: Event) -> bool:
    """The engine found fault with the peer."""
    return isinstance(event, ConnectionFailed) or (isinstance(event, StreamReset) and not event.by_peer)


def compare(script: list[Step], cuts: list[int]) -> None:
    ours, theirs = (Peer.client_of(engine, LIMITS) for engine in (Engine.EXPRESS, Engine.H2))
    for step in script:
        wire = written(ours, step)
        assert wire == written(theirs, step)
        told = [_told(peer, wire, cuts) for peer in (ours, theirs)]
        answered = [peer.take() for peer in (ours, theirs)]
        faults = [
            any(map(is_mistake, events)) or any(kind in (frames.RST_STREAM, frames.GOAWAY) for kind, *_ in output)
            for events, output in zip(told, answered, strict=True)
        ]
        if faults[1] and _is_forgiven_by_us(step):
            return
        assert faults[0] or not faults[1], (step, told, answered)
        assert faults[0] == faults[1] or _is_forgiven_by_the_library(step), (step, told, answered)
        if faults[0]:
            return
        assert told[0] == told[1], step
        assert _owed(answered[0]) == _owed(answered[1]), step
        for stream_id in (1, 3, 5, 7, 9):
            assert ours.connection.sendable(stream_id) == theirs.connection.sendable(stream_id), (step, stream_id)


def _is_forgiven_by_the_library(step: Step) -> bool:
    """RST_STREAM on a stream that was never opened; PUSH_PROMISE, until its head is whole; HEADERS whose priority
    reaches into its padding."""
    match step:
        case ("raw", (frames.HEADERS, int(flags), _, bytes(payload))) if flags & 0x28 == 0x28:
            return len(payload) - 6 < payload[0]
        case ("reset", _) | ("raw", (frames.RST_STREAM | frames.PUSH_PROMISE, *_)):
            return True
    return False


def _is_forgiven_by_us(step: Step) -> bool:
    """WINDOW_UPDATE with its reserved bit set."""
    match step:
        case ("raw", (frames.WINDOW_UPDATE, _, _, bytes(payload))):
            return len(payload) == 4 and payload[0] >= 0x80
    return False


def _told(peer: Peer, wire: bytes, cuts: list[int]) -> list[Event]:
    """The events of a step, however its bytes are cut and its frames joined; received data is consumed, as a tunnel
    would."""
    events: list[Event] = []
    edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    for start, end in pairwise(edges):
        events += peer.give(wire[start:end])
    for event in events:
        if isinstance(event, DataReceived):
            peer.connection.consume(event.stream_id, event.flow_length)
    return _joined(events)


def _joined(events: list[Event]) -> list[Event]:
    """One event for data of one stream that follows each other."""
    joined: list[Event] = []
    for event in events:
        before = joined[-1] if joined else None
        if isinstance(event, DataReceived) and isinstance(before, DataReceived) and before.stream_id == event.stream_id:
            length = before.flow_length + event.flow_length
            joined[-1] = DataReceived(event.stream_id, before.data + event.data, length, event.end_stream)
        else:
            joined.append(event)
    return joined


def _owed(output: list[tuple[int, int, int, bytes]]) -> list[tuple[int, int, int, bytes]]:
    """What the peer is owed, without the windows: those are returned at different moments."""
    return [frame for frame in output if frame[0] != frames.WINDOW_UPDATE]


@OFTEN
@given(st.lists(steps, max_size=20), st.lists(st.integers(0, 2000), max_size=4))
def test_engines_agree_on_what_a_client_sends(script: list[Step], cuts: list[int]) -> None:
    compare(script, cuts)


@OFTEN
@given(st.lists(steps, min_size=1, max_size=8), st.integers(0, 4000), st.integers(0, 255))
def test_engines_agree_when_one_byte_is_another(script: list[Step], place: int, value: int) -> None:
    ours, theirs = (Peer.client_of(engine, LIMITS) for engine in (Engine.EXPRESS, Engine.H2))
    wire = bytearray(b"".join(written(ours, step) for step in script))
    wire[place % len(wire)] = value

    for peer in (ours, theirs):
        events = peer.give(bytes(wire))
        assert all(isinstance(event, RequestReceived | DataReceived) or event for event in events)
        peer.connection.take_output()


@OFTEN
@given(st.binary(max_size=3000))
def test_no_bytes_at_all_are_too_much_for_an_engine(noise: bytes) -> None:
    for engine in Engine:
        for peer in (Peer.client_of(engine, LIMITS), Peer.server_of(engine, LIMITS)):
            peer.give(noise)
            peer.connection.take_output()


def test_engines_go_on_agreeing_for_as_long_as_they_are_asked_to() -> None:
    """Fresh examples until the time is up; one round of them when no time is given."""
    deadline = time.monotonic() + SECONDS
    search = settings(max_examples=200, database=None, suppress_health_check=list(HealthCheck))
    again = search(given(st.lists(steps, max_size=40), st.lists(st.integers(0, 5000), max_size=6))(compare))

    again()
    while time.monotonic() < deadline:
        again()
