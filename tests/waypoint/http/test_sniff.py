import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypoint.http.sniff import PREFACE, Sniffed, sniff

BEGINNINGS = [
    (PREFACE + b"\x00\x00", Sniffed.HTTP2),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Sniffed.HTTP1),
    (b"get /x?y HTTP/1.0\n", Sniffed.HTTP1),
    (b"PRI * HTTP/1.1\r\n", Sniffed.HTTP1),
    (b"M-SEARCH * HTTP/1.1\r\n", Sniffed.HTTP1),
    (b"GET key\r\n", Sniffed.OPAQUE),  # Redis
    (b"PING\r\n", Sniffed.OPAQUE),
    (b"*1\r\n$4\r\nPING\r\n", Sniffed.OPAQUE),
    (b"\x16\x03\x01\x02\x00\x01", Sniffed.OPAQUE),  # TLS
    (b"EHLO there\r\n", Sniffed.OPAQUE),
    (b"SSH-2.0-OpenSSH_9.2\r\n", Sniffed.OPAQUE),
    (b"GET / HTTP/3.0\r\n", Sniffed.OPAQUE),
    (b"GET  / HTTP/1.1\r\n", Sniffed.OPAQUE),
    (b"A" * 33, Sniffed.OPAQUE),
    (b"GET /" + b"a" * 9000, Sniffed.OPAQUE),
    (b"", None),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
    (b"GET", None),
    (b"GET / HTTP/1.1", None),
]


@pytest.mark.parametrize(("data", "expected"), BEGINNINGS)
def test_the_first_bytes_tell_what_a_connection_carries(data: bytes, expected: Sniffed | None) -> None:
    assert sniff(data) is expected


@pytest.mark.parametrize(("data", "expected"), BEGINNINGS)
def test_what_comes_byte_by_byte_is_told_the_same(data: bytes, expected: Sniffed | None) -> None:
    told = [found for end in range(len(data) + 1) if (found := sniff(data[:end]))]

    assert set(told) == ({expected} if expected else set())


@given(st.binary(max_size=100), st.integers(0, 100))
def test_nothing_that_was_told_is_taken_back(data: bytes, end: int) -> None:
    early = sniff(data[:end])

    assert early is None or sniff(data) is early
