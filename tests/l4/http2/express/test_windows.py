import pytest

from l4.http2 import frames
from l4.http2.connection import Limits
from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.express.output import Output
from l4.http2.express.streams import Stream
from l4.http2.express.windows import Windows
from l4.http2.flood import FloodGuard
from l4.http2.flood_limits import FloodLimits
from tests.contracts.http2_engine import split

LIMITS = Limits(stream_window=1000, connection_window=100_000)


def windows_and_output() -> tuple[Windows, Output]:
    output = Output(FloodGuard(FloodLimits(), 1000, 100))
    return Windows(LIMITS, output), output


def updates(output: Output) -> list[tuple[int, int]]:
    """The WINDOW_UPDATE frames that wait, as stream id and increment."""
    found = split(b"".join(output.waiting))
    assert {kind for kind, _, _, _ in found} <= {frames.WINDOW_UPDATE}
    return [(stream_id, int.from_bytes(payload)) for _, _, stream_id, payload in found]


def test_the_connection_is_widened_to_the_limit() -> None:
    windows, output = windows_and_output()

    windows.widen(100_000)

    assert updates(output) == [(0, 100_000 - 65_535)]
    assert windows.receive == 100_000


def test_a_limit_below_the_rfcs_window_asks_for_no_update() -> None:
    windows, output = windows_and_output()

    windows.widen(1000)

    assert updates(output) == []
    assert windows.receive == 65_535


def test_a_streams_window_is_given_back_in_halves() -> None:
    windows, output = windows_and_output()
    stream = Stream(1, 1000, 200)

    windows.consume(stream, 499)
    before = updates(output)
    windows.consume(stream, 1)

    assert before == []
    assert updates(output) == [(1, 500)]
    assert (stream.receive_window, stream.unreturned) == (700, 0)


def test_a_stream_that_the_peer_has_ended_needs_no_window() -> None:
    windows, output = windows_and_output()
    stream = Stream(1, 1000, 200)
    stream.remote_closed = True

    windows.consume(stream, 900)

    assert updates(output) == []


def test_the_connection_gets_back_what_streams_consumed_that_have_ended() -> None:
    windows, output = windows_and_output()

    windows.consume(None, 30_000)
    windows.consume(None, 20_000)

    assert updates(output) == [(0, 50_000)]


@pytest.mark.parametrize(
    ("increment", "code"),
    [(0, ErrorCode.PROTOCOL_ERROR), (frames.MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR)],
)
def test_an_impossible_increment_ends_the_connection(increment: int, code: ErrorCode) -> None:
    windows, _ = windows_and_output()

    with pytest.raises(ConnectionFault) as caught:
        windows.open_connection(increment)

    assert caught.value.code is code
