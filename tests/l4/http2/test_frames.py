import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from l4.http2 import frames
from l4.http2.errors import ConnectionFault, ErrorCode


def test_frames_are_written_as_another_library_writes_them() -> None:
    assert (
        frames.frame(frames.DATA, frames.END_STREAM, 5, b"abc")
        == DataFrame(5, b"abc", flags=["END_STREAM"]).serialize()
    )
    assert frames.window_update_frame(3, 70_000) == WindowUpdateFrame(3, window_increment=70_000).serialize()
    assert frames.rst_stream_frame(3, ErrorCode.CANCEL) == RstStreamFrame(3, error_code=ErrorCode.CANCEL).serialize()
    goaway = GoAwayFrame(0, last_stream_id=7, error_code=ErrorCode.PROTOCOL_ERROR, additional_data=b"why")
    assert frames.goaway_frame(7, ErrorCode.PROTOCOL_ERROR, b"why") == goaway.serialize()
    settings = {frames.INITIAL_WINDOW_SIZE: 1 << 20, frames.ENABLE_PUSH: 0}
    assert frames.settings_frame(settings) == SettingsFrame(0, settings=settings).serialize()


def test_settings_are_read_in_order_and_may_repeat() -> None:
    payload = b"\0\3" + (7).to_bytes(4) + b"\0\3" + (8).to_bytes(4)

    assert frames.parse_settings(payload) == [(3, 7), (3, 8)]


@pytest.mark.parametrize("length", [1, 5, 7])
def test_settings_of_another_length_end_the_connection(length: int) -> None:
    with pytest.raises(ConnectionFault) as caught:
        frames.parse_settings(bytes(length))

    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize("length", [0, 3, 5])
def test_a_number_of_another_length_ends_the_connection(length: int) -> None:
    with pytest.raises(ConnectionFault) as caught:
        frames.parse_long(bytes(length), "RST_STREAM")

    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    ("payload", "data"), [(b"\0abc", b"abc"), (b"\2abc\0\0", b"abc"), (b"\0", b""), (b"\3\0\0\0", b"")]
)
def test_padding_is_taken_off(payload: bytes, data: bytes) -> None:
    assert frames.strip_padding(frames.PADDED, payload) == data
    assert frames.strip_padding(0, payload) == payload


@pytest.mark.parametrize("payload", [b"", b"\1", b"\4abc"])
def test_padding_that_is_longer_than_its_frame_ends_the_connection(payload: bytes) -> None:
    with pytest.raises(ConnectionFault):
        frames.strip_padding(frames.PADDED, payload)
