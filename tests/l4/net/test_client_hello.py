"""The server name in what real TLS clients send first."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4.net.client_hello import ClientHello


def hello(name: str | None, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.maximum_version = most
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["reviews.example.com", None])
def test_the_name_is_found(name: str | None, most: ssl.TLSVersion) -> None:
    seen = ClientHello()

    assert not seen.feed(hello(name, most))
    assert seen.server_name == (name or "")


def test_it_may_come_byte_by_byte() -> None:
    seen = ClientHello()

    wants_more = [seen.feed(bytes([byte])) for byte in hello("reviews.example.com")]

    assert wants_more[-1] is False
    assert all(wants_more[:-1])
    assert seen.server_name == "reviews.example.com"


def test_it_may_lie_in_several_records() -> None:
    record = hello("reviews.example.com")
    message = record[5:]
    pieces = [message[start : start + 50] for start in range(0, len(message), 50)]
    seen = ClientHello()

    seen.feed(b"".join(record[:3] + len(piece).to_bytes(2) + piece for piece in pieces))

    assert seen.server_name == "reviews.example.com"


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x17\x03\x03\x00\x01a", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"]
)
def test_what_is_no_hello_has_no_name(data: bytes) -> None:
    seen = ClientHello()

    assert not seen.feed(data)
    assert seen.server_name == ""


def test_it_is_not_looked_for_without_end() -> None:
    seen = ClientHello()

    assert not seen.feed(b"\x16\x03\x01\xff\xff\x01\x00\xff\xff" + bytes(17_000))


@given(st.binary(max_size=300))
def test_nothing_breaks_it(rest: bytes) -> None:
    ClientHello().feed(b"\x16\x03\x01" + len(rest).to_bytes(2) + rest)
