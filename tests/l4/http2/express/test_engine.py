"""What only the built-in engine does. The contract of both is in `tests/l4/http2/test_engines.py`."""

import sys

import pytest

from l4.http2 import frames
from l4.http2.connection import Limits
from l4.http2.engines import Engine
from l4.http2.events import ConnectionFailed, DataReceived, Event, StreamReset
from l4.http2.flood_limits import FloodLimits
from tests.contracts.http2_engine import GET, OK, Peer, data


def test_8_1_the_end_of_a_stream_joins_the_data_that_still_waits() -> None:
    peer = Peer.client_of(Engine.EXPRESS)
    peer.give(b"".join(peer.headers(stream_id, GET, end_stream=True) for stream_id in (1, 3)))
    for stream_id in (1, 3):
        peer.connection.send_headers(stream_id, OK, False)
    peer.take()

    peer.connection.send_data(1, b"first", False)
    peer.connection.send_data(3, b"other", False)
    peer.connection.send_data(1, b"", True)  # other frames came between
    peer.connection.send_data(3, b"more", False)
    peer.connection.send_data(3, b"", True)

    assert [(flags, stream_id, payload) for _, flags, stream_id, payload in peer.take()] == [
        (0, 1, b"first"),
        (0, 3, b"other"),
        (frames.END_STREAM, 1, b""),
        (frames.END_STREAM, 3, b"more"),
    ]
    assert peer.connection.peer_stream_count == 0


def test_8_1_the_end_of_a_stream_does_not_join_what_has_left() -> None:
    peer = Peer.client_of(Engine.EXPRESS)
    peer.give(peer.headers(1, GET, end_stream=True))
    peer.connection.send_headers(1, OK, False)
    peer.take()
    peer.connection.send_data(1, b"data", False)
    peer.take()

    peer.connection.ping(b"12345678")
    peer.connection.ping(b"12345678")  # as many pieces as the data had
    peer.connection.send_data(1, b"", True)

    assert [(kind, flags) for kind, flags, _, _ in peer.take()] == [
        (frames.PING, 0),
        (frames.PING, 0),
        (frames.DATA, frames.END_STREAM),
    ]


@pytest.mark.parametrize(("sent", "is_whole"), [([b"12", b"345"], True), ([b"12", b"34"], False), ([b"123456"], False)])
def test_8_1_1_a_body_in_pieces_must_be_as_long_as_it_says(sent: list[bytes], is_whole: bool) -> None:
    peer = Peer.client_of(Engine.EXPRESS)
    peer.give(peer.headers(1, [*GET, (b"content-length", b"5")]))

    events = [event for piece in sent for event in peer.give(data(1, piece, end_stream=piece is sent[-1]))]

    assert (StreamReset not in map(type, events)) == is_whole


@pytest.mark.parametrize("cuts", [(5, 9), (9, 6000), (8000, 8001), (15_000, 16_000), (6000, 16_300)], ids=str)
def test_4_1_a_frame_that_comes_in_parts_is_whole_and_so_is_what_follows(cuts: tuple[int, int]) -> None:
    peer = Peer.client_of(Engine.EXPRESS)
    peer.give(peer.headers(1, GET))
    body = bytes(range(256)) * 60
    sent = data(1, body) + data(1, b"next", end_stream=True)
    first, second = cuts

    events = [event for part in (sent[:first], sent[first:second], sent[second:]) for event in peer.give(part)]

    received = [(event.data, event.end_stream) for event in events if isinstance(event, DataReceived)]
    assert received == [(body, False), (b"next", True)]


def told(events: list[Event]) -> list[tuple[int, bytes, int, bool]]:
    return [
        (event.stream_id, event.data, event.flow_length, event.end_stream)
        for event in events
        if isinstance(event, DataReceived)
    ]


def test_data_of_a_stream_that_comes_in_one_read_is_one_event() -> None:
    peer = Peer.client_of(Engine.EXPRESS)
    peer.give(peer.headers(1, GET) + peer.headers(3, GET))

    events = peer.give(
        data(1, b"one ")
        + data(1, b"two ")
        + data(1, b"three")
        + data(3, b"other")
        + frames.frame(frames.PING, 0, 0, bytes(8))
        + data(3, b"", padding=0)
        + data(3, b"after a ping ")
        + data(3, b"the end", end_stream=True)
        + data(1, b"!")
    )

    assert told(events) == [
        (1, b"one two three", 13, False),
        (3, b"other", 5, False),
        (3, b"", 1, False),
        (3, b"after a ping the end", 20, True),
        (1, b"!", 1, False),
    ]


def test_data_before_a_fault_of_the_connection_is_told() -> None:
    peer = Peer.client_of(Engine.EXPRESS)
    peer.give(peer.headers(1, GET))

    for fault in (bytes([0xFF] * 9), frames.frame(frames.DATA, 0, 0, b"x")):
        peer = Peer.client_of(Engine.EXPRESS)
        peer.give(peer.headers(1, GET))
        events = peer.give(data(1, b"one ") + data(1, b"two") + fault)

        assert told(events) == [(1, b"one two", 7, False)]
        assert isinstance(events[-1], ConnectionFailed)


def test_tiny_frames_are_counted_one_by_one_though_they_are_one_event() -> None:
    limits = Limits(flood=FloodLimits(http2_tiny_data_frames=100))
    peer = Peer.client_of(Engine.EXPRESS, limits)
    peer.give(peer.headers(1, GET))

    events = peer.give(data(1, b".") * 1000)

    assert isinstance(events[-1], ConnectionFailed)


@pytest.mark.parametrize("length", [16_384, 16_385, 40_000, 65_535])
def test_6_9_long_data_is_split_to_the_frame_size(length: int) -> None:
    peer = Peer.client_of(Engine.EXPRESS)
    peer.give(peer.headers(1, GET, end_stream=True))
    peer.connection.send_headers(1, OK, False)
    peer.take()
    body = bytes(range(256)) * 256

    assert peer.connection.send_data(1, memoryview(body)[:length], True) == length

    sent = peer.take()
    assert b"".join(payload for _, _, _, payload in sent) == body[:length]
    assert [len(payload) for _, _, _, payload in sent[:-1]] == [16_384] * (len(sent) - 1)
    assert [flags for _, flags, _, _ in sent] == [0] * (len(sent) - 1) + [frames.END_STREAM]


@pytest.mark.parametrize(("tail", "is_kept"), [(100, False), (9000, True)])
def test_only_a_large_part_of_a_frame_keeps_in_memory_what_came_with_it(tail: int, is_kept: bool) -> None:
    peer = Peer.client_of(Engine.EXPRESS)
    peer.give(peer.headers(1, GET))
    read = data(1, bytes(8000)) + data(1, bytes(16_000))[:tail]
    before = sys.getrefcount(read)

    peer.give(read)

    assert (sys.getrefcount(read) > before) == is_kept
