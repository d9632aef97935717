import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Headers
from waypoint.telemetry.trace_context import TraceParent
from waypoint.telemetry.trace_headers import ALL, Style, extract, inject

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
W3C = {b"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
IDS = {b"x-b3-traceid": b"4bf92f3577b34da6a3ce929d0e0e4736", b"x-b3-spanid": b"00f067aa0ba902b7"}
SHORT = b"a3ce929d0e0e4736-00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (W3C, (TraceParent(TRACE, SPAN, 1), Style.W3C)),
        ({**W3C, b"b3": b"0"}, (TraceParent(TRACE, SPAN, 1), Style.W3C)),
        ({b"b3": SHORT + b"-1"}, (TraceParent(TRACE & (2**64 - 1), SPAN, 1), Style.B3)),
        ({b"b3": SHORT + b"-0-05e3ac9a4f6e3b90"}, (TraceParent(TRACE & (2**64 - 1), SPAN, 0), Style.B3)),
        ({b"b3": SHORT + b"-d"}, (TraceParent(TRACE & (2**64 - 1), SPAN, 1), Style.B3)),
        ({b"b3": SHORT}, (TraceParent(TRACE & (2**64 - 1), SPAN, 0, is_decided=False), Style.B3)),
        ({b"b3": b"0"}, (TraceParent(0, 0, 0), Style.B3)),
        ({**IDS, b"x-b3-sampled": b"1"}, (TraceParent(TRACE, SPAN, 1), Style.B3_MULTI)),
        ({**IDS, b"x-b3-sampled": b"false"}, (TraceParent(TRACE, SPAN, 0), Style.B3_MULTI)),
        ({**IDS, b"x-b3-flags": b"1"}, (TraceParent(TRACE, SPAN, 1), Style.B3_MULTI)),
        (IDS, (TraceParent(TRACE, SPAN, 0, is_decided=False), Style.B3_MULTI)),
        ({b"x-b3-sampled": b"0"}, (TraceParent(0, 0, 0), Style.B3_MULTI)),
        ({b"x-b3-sampled": b"1"}, (None, None)),
        ({}, (None, None)),
        ({b"traceparent": b"malformed", b"b3": SHORT + b"-1"}, (TraceParent(TRACE & (2**64 - 1), SPAN, 1), Style.B3)),
        ({b"b3": b"malformed"}, (None, None)),
        ({b"b3": b"0" * 32 + b"-00f067aa0ba902b7-1"}, (None, None)),
        ({b"x-b3-traceid": b"4BF9", b"x-b3-spanid": b"00f067aa0ba902b7"}, (None, None)),
        ({b"x-b3-traceid": b"0" * 16, b"x-b3-spanid": b"00f067aa0ba902b7"}, (None, None)),
    ],
)
def test_traces_are_read_in_each_form(fields: dict[bytes, bytes], expected: object) -> None:
    assert extract(fields) == expected


def test_only_the_chosen_forms_are_read() -> None:
    fields = {**W3C, b"b3": SHORT + b"-1"}

    assert extract(fields, (Style.B3,))[1] is Style.B3
    assert extract(W3C, (Style.B3, Style.B3_MULTI)) == (None, None)


def test_headers_are_replaced_where_they_are_and_others_stay() -> None:
    headers: Headers = [(b"a", b"1"), (b"b3", SHORT), (b"x-envoy-attempt-count", b"1")]

    inject(headers, TraceParent(TRACE, SPAN, 1), (Style.W3C, Style.B3))

    assert headers == [
        (b"traceparent", W3C[b"traceparent"]),
        (b"a", b"1"),
        (b"b3", b"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"),
        (b"x-envoy-attempt-count", b"1"),
    ]


@pytest.mark.parametrize("style", ALL)
@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 1))
def test_what_is_written_is_read_again(style: Style, trace: int, span: int, flags: int) -> None:
    headers: Headers = []

    inject(headers, TraceParent(trace, span, flags), (style,))

    assert extract(dict(headers)) == (TraceParent(trace, span, flags), style)


@given(st.dictionaries(st.sampled_from([b"traceparent", b"b3", *IDS, b"x-b3-sampled", b"x-b3-flags"]), st.binary()))
def test_no_header_raises(fields: dict[bytes, bytes]) -> None:
    extract(fields)
