"""What only the built-in engine does. The contract of both is in `tests/l4/http2/test_engines.py`."""

import sys

import pytest

from l4.http2 import frames
from l4.http2.engines import Engine
from l4.http2.events import DataReceived, StreamReset
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


@pytest.mark.parametrize(("tail", "is_kept"), [(100, False), (9000, True)])
def test_only_a_large_part_of_a_frame_keeps_in_memory_what_came_with_it(tail: int, is_kept: bool) -> None:
    peer = Peer.client_of(Engine.EXPRESS)
    peer.give(peer.headers(1, GET))
    read = data(1, bytes(8000)) + data(1, bytes(16_000))[:tail]
    before = sys.getrefcount(read)

    peer.give(read)

    assert (sys.getrefcount(read) > before) == is_kept
