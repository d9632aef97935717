"""Where messages end, however they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypoint.http.framing import ChunkScanner, HeadCutter

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b"3;a=b\r\nabc\r\n0a\r\n0123\n\r\n\r\n9\r\n0\r\nX: 1\r\n\r\n"


@given(st.integers(1, len(HEAD) - 1), st.binary(max_size=10))
def test_a_head_ends_at_its_empty_line_wherever_it_is_cut(place: int, rest: bytes) -> None:
    cutter = HeadCutter(len(HEAD))

    first = cutter.cut(HEAD[:place])
    was_complete = cutter.is_complete
    second = cutter.cut(HEAD[place:] + rest)

    assert (first, was_complete, second) == (HEAD[:place], False, HEAD[place:])
    assert cutter.is_complete
    assert cutter.size == len(HEAD)
    assert not cutter.is_too_large


@pytest.mark.parametrize("pieces", [[HEAD], [HEAD[:5], HEAD[5:]], [bytes([byte]) for byte in HEAD]])
def test_of_a_head_that_is_too_large_no_more_than_the_limit_is_read(pieces: list[bytes]) -> None:
    cutter = HeadCutter(len(HEAD) - 1)

    read = b"".join(cutter.cut(piece) for piece in pieces)

    assert cutter.is_too_large
    assert read == HEAD[:-1]


@given(st.lists(st.integers(1, len(BODY) - 1), max_size=8), st.binary(max_size=5))
def test_a_chunked_body_ends_after_its_trailers_wherever_it_is_cut(places: list[int], rest: bytes) -> None:
    scanner = ChunkScanner(4, 100)
    cuts = [0, *sorted(places), len(BODY)]
    pieces = [BODY[start:end] for start, end in pairwise(cuts)]

    for piece in pieces[:-1]:
        assert scanner.scan(piece) == len(piece)
    end = scanner.scan(pieces[-1] + rest)

    assert end == len(pieces[-1])
    assert scanner.is_complete
    assert not scanner.exceeded


@pytest.mark.parametrize(
    ("beyond", "before", "reason"),
    [
        (b"1;aaaa\r\nx\r\n", b"", "chunk_extension_bytes"),
        (b"1;aaa\r\n", b"1;\r\nx\r\n", "chunk_extension_bytes"),
        (b"1;aaaa", b"", "chunk_extension_bytes"),
        (b"00000000000000001\r\nx\r\n", b"", "malformed_http"),
        (b"X: 123\r\n\r\n", b"0\r\n", "head_bytes"),
        (b"X: 12345", b"0\r\n", "head_bytes"),
    ],
)
def test_what_exceeds_a_limit_is_not_to_be_read(beyond: bytes, before: bytes, reason: str) -> None:
    scanner = ChunkScanner(4, 7)

    end = scanner.scan(before + beyond)

    assert end == len(before)
    assert scanner.exceeded == reason


@pytest.mark.parametrize("size", [b"-5", b"+1", b"x", b"", b"1 "])
def test_a_size_that_is_none_is_left_to_the_parser(size: bytes) -> None:
    message = size + b"\r\n" + b"a" * 9

    assert ChunkScanner(4, 7).scan(message) <= len(message)
