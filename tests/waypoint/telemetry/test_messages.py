from hypothesis import given
from hypothesis import strategies as st

from l4.telemetry.metrics import Value
from waypoint.telemetry.messages import Messages, Scan


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_messages_count_however_their_bytes_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(b"\x00" + len(it).to_bytes(4) + it for it in messages)
    ends = sorted(min(it, len(stream)) for it in cuts)
    scan = Scan()

    for begin, end in zip([0, *ends], [*ends, len(stream)], strict=True):
        scan.feed(stream[begin:end])

    assert scan.counter.value == len(messages)


def test_a_message_counts_before_it_is_complete() -> None:
    scan = Scan()

    for byte in b"\x00\x00\x00\x01":
        scan.feed(bytes([byte]))
    before = scan.counter.value
    scan.feed(b"\x00")

    assert (before, scan.counter.value) == (0, 1)


def test_what_came_before_there_was_an_endpoint_counts_for_the_first_one() -> None:
    first, second = (Value(), Value()), (Value(), Value())
    messages = Messages()

    messages.request.feed(bytes(10))
    messages.count_for(*first)
    messages.count_for(*second)
    messages.request.feed(bytes(5))
    messages.response.feed(bytes(5))

    assert not messages.is_pending
    assert [it.value for it in (*first, *second)] == [2, 0, 1, 1]
