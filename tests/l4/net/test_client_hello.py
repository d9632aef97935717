"""The server name in what real TLS clients send first."""

import ssl
import time

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


HELLO = hello("reviews.example.com")


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["reviews.example.com", None])
def test_the_name_is_found(name: str | None, most: ssl.TLSVersion) -> None:
    seen = ClientHello()

    assert not seen.feed(hello(name, most))
    assert seen.server_name == (name or "")


def test_it_may_come_byte_by_byte() -> None:
    seen = ClientHello()

    wants_more = [seen.feed(bytes([byte])) for byte in HELLO]

    assert wants_more[-1] is False
    assert all(wants_more[:-1])
    assert seen.server_name == "reviews.example.com"


@given(st.integers(1, 600), st.integers(1, 600))
def test_however_it_is_cut_the_name_is_the_same(record_size: int, read_size: int) -> None:
    message = HELLO[5:]
    pieces = [message[start : start + record_size] for start in range(0, len(message), record_size)]
    records = b"".join(HELLO[:3] + len(piece).to_bytes(2) + piece for piece in pieces)
    seen = ClientHello()

    wants_more = [seen.feed(records[start : start + read_size]) for start in range(0, len(records), read_size)]

    assert wants_more[-1] is False
    assert all(wants_more[:-1])
    assert seen.server_name == "reviews.example.com"


@pytest.mark.parametrize(("size", "found"), [(255, 255), (256, 0)])
def test_a_name_that_is_longer_than_names_may_be_is_none(size: int, found: int) -> None:
    name = b"\x00" + size.to_bytes(2) + b"a" * size
    names = len(name).to_bytes(2) + name
    extensions = b"\x00\x00" + len(names).to_bytes(2) + names
    body = b"\x03\x03" + bytes(32 + 1) + b"\x00\x02\x13\x01" + b"\x01\x00" + len(extensions).to_bytes(2) + extensions
    message = b"\x01" + len(body).to_bytes(3) + body
    seen = ClientHello()

    assert not seen.feed(b"\x16\x03\x01" + len(message).to_bytes(2) + message)
    assert seen.server_name == "a" * found


def test_an_endless_hello_in_tiny_records_costs_little() -> None:
    began = time.process_time()
    seen = ClientHello()

    for byte in b"\x16\x03\x01\x00\x01\x01" + b"\x16\x03\x01\x00\x01\xff" * 4000:
        if not seen.feed(bytes([byte])):
            break

    assert time.process_time() - began < 2  # it was 10 s when every byte made it look at all of them again


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
