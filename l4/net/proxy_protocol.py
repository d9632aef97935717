"""PROXY protocol version 2 (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt), as a ztunnel sends it to a
waypoint in sandwich mode: the client's address and identity, and its destination. Version 1 cannot carry an identity.

Without I/O. The header is not verified: accept it only from a trusted sender.
"""

import ipaddress
from dataclasses import dataclass

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16
_MAX_LENGTH = 4096
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}  # TCP over IPv4, TCP over IPv6
_CRC32C, _NOOP, _IDENTITY, _HOSTNAME = 0x03, 0x04, 0xD0, 0xD1


class InvalidProxyHeader(ValueError):
    """The header is invalid. The message says why."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A parsed header of `size` bytes.

    `source` and `destination` are None for the LOCAL command, a health check by the sender itself. `identity` is a
    SPIFFE URI and `hostname` that of a service; both may be empty.
    """

    size: int
    source: tuple[str, int] | None = None
    destination: tuple[str, int] | None = None
    identity: str = ""
    hostname: str = ""


def encode(source: tuple[str, int], destination: tuple[str, int], identity: str = "") -> bytes:
    """Return the header of a connection. `identity` is a SPIFFE URI, or empty. Mixed addresses become IPv6."""
    ends = ipaddress.ip_address(source[0]), ipaddress.ip_address(destination[0])
    if ends[0].version != ends[1].version:
        ends = _as_v6(ends[0]), _as_v6(ends[1])
    width = len(ends[0].packed)
    family = next(family for family, its in _ADDRESS_BYTES.items() if its == width)
    values = identity.encode()
    payload = b"".join(it.packed for it in ends) + source[1].to_bytes(2) + destination[1].to_bytes(2)
    if values:
        payload += bytes([_IDENTITY]) + len(values).to_bytes(2) + values
    return _SIGNATURE + bytes([_PROXY, family]) + len(payload).to_bytes(2) + payload


def _as_v6(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    return ip if ip.version == 6 else ipaddress.IPv6Address(f"::ffff:{ip}")


def parse(data: bytes) -> ProxyHeader | None:
    """Parse the header at the start of a connection. Returns None if it is incomplete. Raises InvalidProxyHeader."""
    if not data.startswith(_SIGNATURE[: len(data)]):
        raise InvalidProxyHeader("the connection does not begin with a PROXY protocol version 2 header")
    if len(data) < _FIXED:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16])
    if command not in (_LOCAL, _PROXY):
        raise InvalidProxyHeader(f"version and command are {command:#04x}; they must be 0x20 or 0x21")
    if length > _MAX_LENGTH:
        raise InvalidProxyHeader(f"the header is {length} bytes long; at most {_MAX_LENGTH} are allowed")
    size = _FIXED + length
    if len(data) < size:
        return None
    if command == _LOCAL:
        return ProxyHeader(size)
    width = _ADDRESS_BYTES.get(family)
    if width is None:
        raise InvalidProxyHeader(f"family and transport are {family:#04x}; only TCP over IPv4 or IPv6 is supported")
    payload = data[_FIXED:size]
    if length < 2 * width + 4:
        raise InvalidProxyHeader("the header is too short for its addresses")
    values = _values(data[:size], _FIXED + 2 * width + 4)
    ports = 2 * width
    return ProxyHeader(
        size,
        source=(_ip(payload[:width]), int.from_bytes(payload[ports : ports + 2])),
        destination=(_ip(payload[width:ports]), int.from_bytes(payload[ports + 2 : ports + 4])),
        identity=_text(values, _IDENTITY),
        hostname=_text(values, _HOSTNAME),
    )


def _ip(packed: bytes) -> str:
    ip = ipaddress.ip_address(packed)
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def _values(header: bytes, start: int) -> dict[int, bytes]:
    """Parse the type-length-values after the addresses."""
    values: dict[int, bytes] = {}
    while start < len(header):
        kind, length = header[start], int.from_bytes(header[start + 1 : start + 3])
        value = header[start + 3 : start + 3 + length]
        if start + 3 > len(header) or len(value) < length:
            raise InvalidProxyHeader(f"the value of type {kind:#04x} is cut off")
        if kind in values and kind != _NOOP:
            raise InvalidProxyHeader(f"there are two values of type {kind:#04x}")
        if kind == _CRC32C:
            _check(header, start + 3, value)
        values[kind] = value
        start += 3 + length
    return values


def _check(header: bytes, start: int, checksum: bytes) -> None:
    if len(checksum) != 4 or _crc32c(header[:start] + bytes(4) + header[start + 4 :]) != int.from_bytes(checksum):
        raise InvalidProxyHeader("the checksum is wrong")


def _text(values: dict[int, bytes], kind: int) -> str:
    try:
        return values.get(kind, b"").decode()
    except UnicodeDecodeError:
        raise InvalidProxyHeader(f"the value of type {kind:#04x} is not UTF-8") from None


def _crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720 appendix B.4), bit by bit, since headers with a checksum are small and rare."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
