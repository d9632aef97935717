import pytest

from l4.http2 import frames
from l4.http2.errors import ConnectionFault, ErrorCode, StreamFault, StreamUnavailable
from l4.http2.express.streams import Streams


def test_open_streams_are_counted_by_who_opened_them() -> None:
    server = Streams(is_client=False)

    for stream_id in (1, 3, 2):
        server.open(stream_id)
    server.forget(server.by_id[1])

    assert (server.peer_count, server.own_count) == (1, 1)


def test_a_stream_is_forgotten_when_both_sides_have_ended_it() -> None:
    client = Streams(is_client=True)
    stream = client.open(1)

    client.close_local(stream)
    remains = 1 in client.by_id
    client.close_remote(stream)

    assert remains
    assert not client.by_id
    assert client.own_count == 0


def test_forgetting_a_stream_twice_counts_once() -> None:
    client = Streams(is_client=True)
    stream = client.open(1)
    client.open(3)

    client.forget(stream)
    client.forget(stream)

    assert client.own_count == 1


def test_a_body_that_is_shorter_than_its_content_length_is_a_fault_of_the_stream() -> None:
    streams = Streams(is_client=False)
    stream = streams.open(1)
    stream.expected, stream.received = 10, 9

    with pytest.raises(StreamFault):
        streams.close_remote(stream)


@pytest.mark.parametrize("stream_id", [1, 3])
def test_a_stream_that_we_ended_or_never_opened_is_not_writable(stream_id: int) -> None:
    streams = Streams(is_client=True)
    streams.close_local(streams.open(1))

    with pytest.raises(StreamUnavailable):
        streams.writable(stream_id)


def test_ids_are_idle_until_they_are_passed() -> None:
    client = Streams(is_client=True)
    client.next_own = 5
    client.saw(2)

    assert [it for it in range(1, 8) if client.is_idle(it)] == [4, 5, 6, 7]


def test_our_own_ids_do_not_count_as_the_peers() -> None:
    client = Streams(is_client=True)

    client.saw(7)

    assert client.highest_peer == 0


def test_a_frame_that_crossed_our_reset_is_forgiven() -> None:
    streams = Streams(is_client=False)
    streams.remember_reset(1, True)

    streams.check_closed(1, None)


def test_a_frame_after_the_peers_own_reset_is_a_fault_of_the_stream() -> None:
    streams = Streams(is_client=False)
    streams.remember_reset(1, False)

    with pytest.raises(StreamFault) as caught:
        streams.check_closed(1, None)

    assert caught.value.code is ErrorCode.STREAM_CLOSED


def test_a_frame_on_a_stream_that_ended_in_order_is_a_fault_of_the_connection() -> None:
    with pytest.raises(ConnectionFault) as caught:
        Streams(is_client=False).check_closed(1, None)

    assert caught.value.code is ErrorCode.STREAM_CLOSED


def test_of_resets_the_latest_thousand_are_remembered() -> None:
    streams = Streams(is_client=False)

    for number in range(1001):
        streams.remember_reset(2 * number + 1, True)

    assert not streams.was_reset(1)
    assert streams.was_reset(3)


def test_a_new_initial_window_moves_open_streams_by_the_difference() -> None:
    streams = Streams(is_client=True)
    stream = streams.open(1)
    stream.send_window -= 65_000

    streams.resize_send_windows(100)

    assert stream.send_window == 100 - 65_000
    assert streams.open(3).send_window == 100


def test_our_windows_are_in_force_for_open_and_for_new_streams() -> None:
    streams = Streams(is_client=False)
    stream = streams.open(1)
    stream.receive_window -= 10

    streams.resize_receive_windows(1 << 20)

    assert stream.receive_window == (1 << 20) - 10
    assert streams.open(3).receive_window == 1 << 20


def test_a_window_that_the_peer_makes_overflow_ends_the_connection() -> None:
    streams = Streams(is_client=True)
    streams.open(1).send_window += 1

    with pytest.raises(ConnectionFault) as caught:
        streams.resize_send_windows(frames.MAX_WINDOW)

    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR
