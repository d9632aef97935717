import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypoint.telemetry.trace_context import TraceParent, format_traceparent, parse_traceparent


def test_traceparent_is_read_and_written_back_unchanged() -> None:
    wire = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    parent = parse_traceparent(wire)

    assert parent == TraceParent(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1)
    assert parent.is_sampled
    assert format_traceparent(parent) == wire


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        b"00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
    ],
)
def test_malformed_traceparent_counts_as_absent(wire: bytes) -> None:
    assert parse_traceparent(wire) is None


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_fail(wire: bytes) -> None:
    parent = parse_traceparent(wire)

    assert parent is None or parse_traceparent(format_traceparent(parent)) == parent
