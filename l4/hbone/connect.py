"""The head of an HBONE tunnel: HTTP/2 CONNECT with `:authority` and the headers that ztunnel sends (RFC 9113 8.5).

This module parses and formats heads without I/O. It does not decide whether a tunnel is allowed.
"""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from policies.attributes import Headers
from policies.host_port import host_port
from policies.last_look import Unwritable, check_fields, check_target


class InvalidConnect(ValueError):
    """The head is not a valid HBONE CONNECT. The message says why."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Target of a tunnel: a canonical IP address or a hostname, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: bytes) -> "Authority":
        """Parse `ip:port`, `[v6]:port` or `hostname:port`. An IPv4-mapped IPv6 address becomes IPv4.

        Raises InvalidConnect.
        """
        return _recent(text) if len(text) <= _MAX_REMEMBERED_BYTES else cls._parse(text)

    @classmethod
    def _parse(cls, text: bytes) -> "Authority":
        host, colon, port = text.decode("ascii", "replace").rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) < 65536:
            raise InvalidConnect(f"the authority {text!r} is not host:port")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            if ":" not in host:
                raise InvalidConnect(f"the authority {text!r} has brackets around something other than an IPv6 address")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            if not host or ":" in host or not all(c.isascii() and (c.isalnum() or c in "-._") for c in host):
                raise InvalidConnect(f"the authority {text!r} contains neither an IP address nor a hostname") from None
            return cls(host.lower(), int(port))
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return cls(str(mapped or address), int(port))

    @property
    def is_ip(self) -> bool:
        return ":" in self.host or self.host.replace(".", "").isdigit()

    def __str__(self) -> str:
        return host_port(self.host, self.port)


_MAX_REMEMBERED_BYTES = 300
"""More than the longest name with a port."""
_recent = lru_cache(1024)(Authority._parse)
"""Clients call the same few addresses again and again."""


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """`baggage`, `forwarded` and `traceparent` are empty if absent. They must not affect any decision."""

    authority: Authority
    baggage: bytes = b""
    forwarded: bytes = b""
    traceparent: bytes = b""

    @classmethod
    def from_headers(cls, headers: Headers) -> Self:
        """Parse a request head. Several `baggage` lines are joined. Raises InvalidConnect."""
        pseudo_count = 0
        method = authority = forwarded = traceparent = b""
        baggage: list[bytes] = []
        for name, value in headers:
            if name[:1] == b":":
                pseudo_count += 1
                if name == b":method":
                    method = value
                elif name == b":authority":
                    authority = value
            elif name == b"baggage":
                baggage.append(value)
            elif name == b"forwarded":
                forwarded = value
            elif name == b"traceparent":
                traceparent = value
        if method != b"CONNECT":
            raise InvalidConnect(f"the method is {method!r}, not CONNECT")
        if pseudo_count != 2:
            raise InvalidConnect("CONNECT carries more than :method and :authority")
        return cls(Authority.parse(authority), b",".join(baggage), forwarded, traceparent)

    def headers(self) -> Headers:
        """Return the request's head. Raises InvalidConnect if it must not be written."""
        authority = str(self.authority).encode()
        optional = ((b"baggage", self.baggage), (b"forwarded", self.forwarded), (b"traceparent", self.traceparent))
        fields = [field for field in optional if field[1]]
        try:
            check_target(b"CONNECT", b"*", authority)
            check_fields(fields)
        except Unwritable as error:
            raise InvalidConnect(f"invalid CONNECT to {authority!r}: {error}") from None
        return [(b":method", b"CONNECT"), (b":authority", authority), *fields]
