"""Conditions that select the requests of a policy, and the key by which the policy distinguishes them.

A condition on a given value holds or does not hold. A *distinct* condition holds for any value, and each value is
counted separately. A request without the value is not subject to the policy, with two exceptions that would otherwise
allow evasion: an inverted header match holds without the header, and all clients without an identity count as one.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from policies.attributes import Peer, RequestHead
from policies.matching import StringMatch
from policies.path_match import PathMatch
from policies.query import parse_query

Key = tuple[bytes, ...]
"""One part per condition: the request's distinct value, or empty if the condition does not distinguish."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Condition(Protocol):
    def part(self, head: RequestHead, peer: Peer) -> bytes | None:
        """Return this request's part of the key (empty if not distinct), or None if the condition does not hold."""


@dataclass(frozen=True, slots=True)
class HeaderCondition:
    """A header condition. Of a repeated header, the first value counts. Without `match`, values are distinct."""

    name: bytes
    match: StringMatch | None = None
    is_inverted: bool = False

    def part(self, head: RequestHead, peer: Peer) -> bytes | None:
        value = head.authority if self.name == b"host" else head.get(self.name)
        if self.match is None:
            return value
        holds = value is not None and self.match.accepts(value)
        return b"" if holds is not self.is_inverted else None


@dataclass(frozen=True, slots=True)
class QueryCondition:
    name: bytes
    match: StringMatch | None = None

    def part(self, head: RequestHead, peer: Peer) -> bytes | None:
        value = parse_query(head.query).get(self.name)
        if value is None or self.match is None:
            return value
        return b"" if self.match.accepts(value) else None


@dataclass(frozen=True, slots=True)
class PathCondition:
    match: PathMatch | None = None

    def part(self, head: RequestHead, peer: Peer) -> bytes | None:
        if self.match is None:
            return head.path
        return b"" if self.match.accepts(head.path) else None


@dataclass(frozen=True, slots=True)
class MethodCondition:
    methods: tuple[bytes, ...]

    def part(self, head: RequestHead, peer: Peer) -> bytes | None:
        return b"" if head.method in self.methods else None


@dataclass(frozen=True, slots=True)
class SourceCondition:
    """Clients with an address in `network`. With `is_distinct`, each address is counted separately."""

    network: Network
    is_distinct: bool = False

    def part(self, head: RequestHead, peer: Peer) -> bytes | None:
        address = _address(peer.ip)
        if address.version != self.network.version or address not in self.network:
            return None
        return address.packed if self.is_distinct else b""


@dataclass(frozen=True, slots=True)
class IdentityCondition:
    """Clients by the identity in their certificate. Empty fields match any.

    Service accounts are written `namespace/account`.
    """

    namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    is_distinct: bool = False

    def part(self, head: RequestHead, peer: Peer) -> bytes | None:
        identity = peer.identity
        if identity is None:
            return None if self.namespaces or self.service_accounts or self.principals else b""
        if self.namespaces and identity.namespace not in self.namespaces:
            return None
        account = f"{identity.namespace}/{identity.service_account}"
        if self.service_accounts and account not in self.service_accounts:
            return None
        if self.principals and identity.principal not in self.principals:
            return None
        return identity.principal.encode() if self.is_distinct else b""


def key_of(conditions: Iterable[Condition], head: RequestHead, peer: Peer) -> Key | None:
    """Return the key of a request, or None unless all conditions hold."""
    parts: list[bytes] = []
    for condition in conditions:
        part = condition.part(head, peer)
        if part is None:
            return None
        parts.append(part)
    return tuple(parts)


@lru_cache(maxsize=4096)
def _address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(ip)
