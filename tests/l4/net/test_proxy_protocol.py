"""PROXY protocol version 2, as bytes."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4.net.proxy_protocol import InvalidProxyHeader, ProxyHeader, encode, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IDENTITY = "spiffe://cluster.local/ns/default/sa/client"


def header(
    source: tuple[str, int] = ("10.0.0.1", 4711),
    destination: tuple[str, int] = ("10.96.0.1", 9080),
    values: bytes = b"",
    *,
    command: int = 0x21,
    family: int | None = None,
    length: int | None = None,
) -> bytes:
    one, two = ipaddress.ip_address(source[0]), ipaddress.ip_address(destination[0])
    payload = one.packed + two.packed + source[1].to_bytes(2) + destination[1].to_bytes(2) + values
    family = (0x11 if one.version == 4 else 0x21) if family is None else family
    return SIGNATURE + bytes([command, family]) + (len(payload) if length is None else length).to_bytes(2) + payload


def value(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(2) + content


def test_addresses_identity_and_hostname_are_read_and_the_rest_is_left() -> None:
    values = value(0xD0, IDENTITY.encode()) + value(0xD1, b"app.default.svc.cluster.local") + value(0x04, b"padding")
    data = header(values=values)

    assert parse(data + b"GET /") == ProxyHeader(
        len(data), ("10.0.0.1", 4711), ("10.96.0.1", 9080), IDENTITY, "app.default.svc.cluster.local"
    )


@pytest.mark.parametrize(
    ("ip", "canonical"), [("2001:db8::1", "2001:db8::1"), ("::ffff:10.0.0.9", "10.0.0.9"), ("10.0.0.9", "10.0.0.9")]
)
def test_addresses_are_canonical(ip: str, canonical: str) -> None:
    parsed = parse(header((ip, 1), (ip, 2)))

    assert parsed is not None
    assert (parsed.source, parsed.destination) == ((canonical, 1), (canonical, 2))


@pytest.mark.parametrize(
    ("source", "destination"), [("10.0.0.1", "10.96.0.1"), ("fd00::1", "fd00::2"), ("10.0.0.1", "fd00::2")]
)
@pytest.mark.parametrize("identity", ["", IDENTITY])
def test_what_is_written_is_read(source: str, destination: str, identity: str) -> None:
    data = encode((source, 4711), (destination, 9080), identity)

    assert parse(data + b"GET /") == ProxyHeader(len(data), (source, 4711), (destination, 9080), identity)


def test_a_header_is_written_as_others_write_it() -> None:
    source, destination = ("10.0.0.1", 4711), ("10.96.0.1", 9080)

    assert encode(source, destination, IDENTITY) == header(source, destination, value(0xD0, IDENTITY.encode()))
    assert encode(source, destination) == header(source, destination)


def test_local_names_nobody() -> None:
    assert parse(SIGNATURE + b"\x20\x00\x00\x00") == ProxyHeader(16)


@pytest.mark.parametrize("end", range(len(header(values=value(0xD0, b"x")))))
def test_what_is_not_whole_is_waited_for(end: int) -> None:
    assert parse(header(values=value(0xD0, b"x"))[:end]) is None


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"GET / HTTP/1.1\r\n", "does not begin"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "does not begin"),
        (header(command=0x11), "0x11"),
        (header(command=0x22), "0x22"),
        (header(family=0x12), "only TCP"),
        (header(family=0x31), "only TCP"),
        (header(family=0x21), "too short"),
        (header(length=4097), "at most 4096"),
        (header(values=b"\xd0"), "cut off"),
        (header(values=b"\xd0\x00\x05abc"), "cut off"),
        (header(values=value(0xD0, b"a") + value(0xD0, b"b")), "two values"),
        (header(values=value(0xD0, b"\xff")), "is not UTF-8"),
        (header(values=value(0x03, b"\x00\x00\x00\x00")), "checksum"),
        (header(values=value(0x03, b"\x00")), "checksum"),
    ],
)
def test_what_is_malformed_is_refused_with_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidProxyHeader, match=sentence):
        parse(data)


def test_the_longest_header_allowed_is_read() -> None:
    filling = value(0x04, bytes(4096 - 12 - 3))

    assert parse(header(values=filling)) is not None
    with pytest.raises(InvalidProxyHeader, match="4097"):
        parse(header(values=filling + b"\x04"))


def test_a_right_checksum_is_accepted() -> None:
    # The sum of this header was computed with another implementation of CRC-32C.
    data = bytearray(header(values=value(0x03, bytes(4))))
    data[-4:] = _crc32c_by_polynomial_division(bytes(data)).to_bytes(4)

    assert parse(bytes(data)) is not None


def _crc32c_by_polynomial_division(data: bytes) -> int:
    bits = [int(bit) for byte in data for bit in f"{byte:08b}"[::-1]] + [0] * 32
    for place in range(32):
        bits[place] ^= 1
    polynomial = [int(bit) for bit in f"{0x11EDC6F41:033b}"]
    for place in range(len(bits) - 32):
        if bits[place]:
            for offset, bit in enumerate(polynomial):
                bits[place + offset] ^= bit
    return int("".join(str(bit ^ 1) for bit in bits[-32:])[::-1], 2)


@given(st.binary(max_size=200))
def test_nothing_makes_it_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(InvalidProxyHeader):
        parse(SIGNATURE + data)
