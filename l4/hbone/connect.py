"""The head of an HBONE tunnel: HTTP/2 CONNECT with `:authority` and the headers that ztunnel sends (RFC 9113 8.5).

Sans I/O. Reads and writes heads; it does not decide whether a tunnel may exist.
"""

import ipaddress
from dataclasses import dataclass
from typing import Self

from policies.attributes import Headers
from policies.last_look import Unwritable, check_fields, check_target


class InvalidConnect(ValueError):
    """The head asks for no tunnel that we could make; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Where a tunnel leads: an IP address in canonical form or a hostname, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read `ip:port`, `[v6]:port` or `hostname:port`. An IPv4 address mapped into IPv6 becomes IPv4."""
        host, colon, port = text.decode("ascii", "replace").rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65536:
            raise InvalidConnect(f"the authority {text!r} is not host:port")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            if ":" not in host:
                raise InvalidConnect(f"the authority {text!r} has brackets around something else than IPv6")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            if not host or ":" in host or not all(c.isascii() and (c.isalnum() or c in "-._") for c in host):
                raise InvalidConnect(f"the authority {text!r} has neither an IP address nor a hostname") from None
            return cls(host.lower(), int(port))
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return cls(str(mapped or address), int(port))

    @property
    def is_ip(self) -> bool:
        return ":" in self.host or self.host.replace(".", "").isdigit()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """`baggage`, `forwarded` and `traceparent` are empty when absent. None of them may decide anything."""

    authority: Authority
    baggage: bytes = b""
    forwarded: bytes = b""
    traceparent: bytes = b""

    @classmethod
    def from_headers(cls, headers: Headers) -> Self:
        """Read a request's head; several `baggage` lines are one list. Raises InvalidConnect."""
        pseudo = {name: value for name, value in headers if name[:1] == b":"}
        if pseudo.get(b":method") != b"CONNECT":
            raise InvalidConnect(f"the method is {pseudo.get(b':method', b'')!r}, not CONNECT")
        if len(pseudo) != 2:
            raise InvalidConnect("CONNECT carries more than :method and :authority")
        fields = dict(headers)
        return cls(
            authority=Authority.parse(pseudo.get(b":authority", b"")),
            baggage=b",".join(value for name, value in headers if name == b"baggage"),
            forwarded=fields.get(b"forwarded", b""),
            traceparent=fields.get(b"traceparent", b""),
        )

    def headers(self) -> Headers:
        """The head of a request. Raises InvalidConnect for what must not be written."""
        authority = str(self.authority).encode()
        optional = ((b"baggage", self.baggage), (b"forwarded", self.forwarded), (b"traceparent", self.traceparent))
        fields = [field for field in optional if field[1]]
        try:
            check_target(b"CONNECT", b"*", authority)
            check_fields(fields)
        except Unwritable as error:
            raise InvalidConnect(f"the CONNECT to {authority!r} can't be written: {error}") from None
        return [(b":method", b"CONNECT"), (b":authority", authority), *fields]
