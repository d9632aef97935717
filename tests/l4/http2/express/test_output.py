import pytest
from hpack import Decoder

from l4.http2 import frames
from l4.http2.errors import ErrorCode
from l4.http2.express.output import Output
from l4.http2.flood import Flood, FloodGuard
from l4.http2.flood_limits import FloodLimits
from tests.contracts.http2_engine import OK, kinds, split


def output_of(limits: FloodLimits | None = None) -> Output:
    return Output(FloodGuard(limits or FloodLimits(), 1000, 2))


def test_a_head_beyond_the_peers_frame_size_goes_on_in_continuation() -> None:
    output = output_of()
    headers = [(b":status", b"200"), (b"a", bytes(range(33, 127)) * 400)]

    output.head(1, headers, True)

    found = split(b"".join(output.waiting))
    assert kinds(found) == [frames.HEADERS, frames.CONTINUATION, frames.CONTINUATION]
    assert [flags for _, flags, _, _ in found] == [frames.END_STREAM, 0, frames.END_HEADERS]
    assert all(len(payload) <= frames.DEFAULT_FRAME_SIZE for _, _, _, payload in found)
    decoder = Decoder(max_header_list_size=1 << 20)
    assert decoder.decode(b"".join(it[3] for it in found), raw=True) == headers


def test_answers_are_bounded_while_the_peer_does_not_read() -> None:
    output = output_of(FloodLimits(http2_queued_control_frames=2))
    output.answer(b"one")
    output.answer(b"two")

    with pytest.raises(Flood):
        output.answer(b"three")


def test_frames_of_our_own_are_not_held_against_the_peer() -> None:
    output = output_of(FloodLimits(http2_queued_control_frames=2))

    for _ in range(10):
        output.add(b"frame")

    assert len(output.waiting) == 10


def test_streams_that_we_ended_unread_are_counted_whichever_way_they_ended() -> None:
    guard = FloodGuard(FloodLimits(), 1000, 2)
    output = Output(guard)
    output.head(1, OK, True)
    output.reset(3, ErrorCode.CANCEL)
    guard.opened(5, 0.0)
    output.head(5, OK, True)

    with pytest.raises(Flood):
        guard.opened(7, 0.0)
