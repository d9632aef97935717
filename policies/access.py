"""What somebody wants to do, and the conditions that an AuthorizationPolicy's rules are made of.

A condition is one field of a source, an operation or a `when`: it holds when any of its values does, or, `is_not`, when
none does. What an access lacks (an identity, a header, a token) has no value: no list takes it, and every `not` list is
content. Each says what it must see (`sees`): where bytes are all that is known, those that look at HTTP can't be asked.
https://istio.io/latest/docs/reference/config/security/conditions/
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, Protocol

from policies.attributes import Peer, RequestHead
from policies.claims import Claims
from policies.dot_segments import without_dots
from policies.value_match import Hosts, Networks, Paths, Ports, Texts, address_of


class Seen(IntEnum):
    """How much of an access there is to see; each has what comes before it, too."""

    CONNECTION = 0
    TARGET = 1
    """Method, host and path of a request, which can still be told of one that went on long ago."""
    HEAD = 2
    """All of a request, with the claims of its token."""


@dataclass(slots=True)
class Access:
    """A peer's wish to reach `port` of `addresses`, which are all of one service or one workload; by a request, or by
    bytes (`head` is None). `server_name` is what a TLS client asked for."""

    peer: Peer
    addresses: tuple[str, ...]
    port: int
    head: RequestHead | None = None
    claims: Claims | None = None
    server_name: str = ""
    _principal: bytes | None = field(default=None, init=False)

    @property
    def principal(self) -> bytes | None:
        if self._principal is None and self.peer.identity is not None:
            self._principal = self.peer.identity.principal.encode()
        return self._principal

    @property
    def request(self) -> RequestHead:
        """For conditions that look at HTTP; nobody asks them about bytes."""
        assert self.head is not None
        return self.head

    @property
    def remote_ip(self) -> str:
        """The last address of x-forwarded-for, which a trusted proxy before us has written; else the peer's own."""
        forwarded = _values(self.request, b"x-forwarded-for")
        if not forwarded:
            return self.peer.ip
        last = forwarded[-1].rpartition(b",")[2].strip().decode("latin-1")
        return last if address_of(last) is not None else self.peer.ip


class Condition(Protocol):
    """`key` is what it looks at, in the words of a `when` where there are such."""

    sees: ClassVar[Seen]

    @property
    def key(self) -> str: ...
    @property
    def values(self) -> object: ...
    @property
    def is_not(self) -> bool: ...

    def holds(self, access: Access) -> bool: ...


# -- who -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Principal:
    """`TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, from the peer's certificate."""

    values: Texts
    is_not: bool = False
    key: ClassVar[str] = "source.principal"
    sees: ClassVar[Seen] = Seen.CONNECTION

    def holds(self, access: Access) -> bool:
        return self.values.accepts(access.principal) is not self.is_not


@dataclass(frozen=True, slots=True)
class Namespace:
    values: Texts
    is_not: bool = False
    key: ClassVar[str] = "source.namespace"
    sees: ClassVar[Seen] = Seen.CONNECTION

    def holds(self, access: Access) -> bool:
        identity = access.peer.identity
        namespace = identity.namespace.encode() if identity is not None else None
        return self.values.accepts(namespace) is not self.is_not


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """Of the peer's certificate."""

    values: Texts
    is_not: bool = False
    key: ClassVar[str] = "source.trustDomain"
    sees: ClassVar[Seen] = Seen.CONNECTION

    def holds(self, access: Access) -> bool:
        identity = access.peer.identity
        trust_domain = identity.trust_domain.encode() if identity is not None else None
        return self.values.accepts(trust_domain) is not self.is_not


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """`NAMESPACE/ACCOUNT`, in whatever trust domain."""

    values: Texts
    is_not: bool = False
    key: ClassVar[str] = "source.serviceAccount"
    sees: ClassVar[Seen] = Seen.CONNECTION

    def holds(self, access: Access) -> bool:
        identity = access.peer.identity
        account = f"{identity.namespace}/{identity.service_account}".encode() if identity is not None else None
        return self.values.accepts(account) is not self.is_not


@dataclass(frozen=True, slots=True)
class SourceIp:
    values: Networks
    is_not: bool = False
    key: ClassVar[str] = "source.ip"
    sees: ClassVar[Seen] = Seen.CONNECTION

    def holds(self, access: Access) -> bool:
        return self.values.accepts(access.peer.ip) is not self.is_not


@dataclass(frozen=True, slots=True)
class RemoteIp:
    values: Networks
    is_not: bool = False
    key: ClassVar[str] = "remote.ip"
    sees: ClassVar[Seen] = Seen.HEAD

    def holds(self, access: Access) -> bool:
        return self.values.accepts(access.remote_ip) is not self.is_not


@dataclass(frozen=True, slots=True)
class RequestPrincipal:
    """`ISSUER/SUBJECT` of a verified token."""

    values: Texts
    is_not: bool = False
    key: ClassVar[str] = "request.auth.principal"
    sees: ClassVar[Seen] = Seen.HEAD

    def holds(self, access: Access) -> bool:
        claims = access.claims
        principal = claims.principal.encode() if claims is not None and claims.principal else None
        return self.values.accepts(principal) is not self.is_not


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a verified token, a text or a list of them; `path` leads to one inside of others."""

    path: tuple[str, ...]
    values: Texts
    is_not: bool = False
    sees: ClassVar[Seen] = Seen.HEAD

    @property
    def key(self) -> str:
        return f"request.auth.claims[{']['.join(self.path)}]"

    def holds(self, access: Access) -> bool:
        return any(map(self.values.accepts, self._texts(access))) is not self.is_not

    def _texts(self, access: Access) -> Iterator[bytes]:
        value: Any = access.claims.values if access.claims is not None else None
        for name in self.path:
            value = value.get(name) if isinstance(value, Mapping) else None
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, str):
                yield item.encode()


# -- what ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Host:
    values: Hosts
    is_not: bool = False
    key: ClassVar[str] = "request.host"
    sees: ClassVar[Seen] = Seen.TARGET

    def holds(self, access: Access) -> bool:
        return self.values.accepts(access.request.authority) is not self.is_not


@dataclass(frozen=True, slots=True)
class Method:
    values: Texts
    is_not: bool = False
    key: ClassVar[str] = "request.method"
    sees: ClassVar[Seen] = Seen.TARGET

    def holds(self, access: Access) -> bool:
        return self.values.accepts(access.request.method) is not self.is_not


@dataclass(frozen=True, slots=True)
class Path:
    """The path as it goes on to the endpoint but for rewrites, without the query. Some applications take `;x=1` out of
    each segment before they look at the path, and others don't (CVE-2026-73511): where it denies (`is_wide`), it is
    enough that the path holds in one of the two ways, else it must in both."""

    values: Paths
    is_not: bool = False
    is_wide: bool = False
    key: ClassVar[str] = "request.path"
    sees: ClassVar[Seen] = Seen.TARGET

    def holds(self, access: Access) -> bool:
        path = access.request.path
        is_held = self.values.accepts(path) is not self.is_not
        if b";" not in path or is_held is self.is_wide:
            return is_held
        return self.values.accepts(_without_parameters(path)) is not self.is_not


@dataclass(frozen=True, slots=True)
class Header:
    """All values of a header, joined by commas. Nobody gets past by another value beside the one that is meant
    (CVE-2026-26308): where it denies (`is_wide`), it is enough that it holds for one of the values by itself; where it
    allows, none of the values may be one of those that are not to be."""

    name: bytes
    values: Texts
    is_not: bool = False
    is_wide: bool = False
    sees: ClassVar[Seen] = Seen.HEAD

    @property
    def key(self) -> str:
        return f"request.headers[{self.name.decode()}]"

    def holds(self, access: Access) -> bool:
        values = _values(access.request, self.name)
        if len(values) < 2:
            return self.values.accepts(values[0] if values else None) is not self.is_not
        joined = (b"; " if self.name == b"cookie" else b",").join(values)
        held = [self.values.accepts(value) is not self.is_not for value in (joined, *values)]
        if self.is_wide:
            return any(held)
        return all(held) if self.is_not else held[0]


# -- where ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DestinationIp:
    """Of a service with several addresses any counts, by whichever of them it is called."""

    values: Networks
    is_not: bool = False
    key: ClassVar[str] = "destination.ip"
    sees: ClassVar[Seen] = Seen.CONNECTION

    def holds(self, access: Access) -> bool:
        return any(map(self.values.accepts, access.addresses)) is not self.is_not


@dataclass(frozen=True, slots=True)
class DestinationPort:
    values: Ports
    is_not: bool = False
    key: ClassVar[str] = "destination.port"
    sees: ClassVar[Seen] = Seen.CONNECTION

    def holds(self, access: Access) -> bool:
        return self.values.accepts(access.port) is not self.is_not


@dataclass(frozen=True, slots=True)
class ServerName:
    values: Texts
    is_not: bool = False
    key: ClassVar[str] = "connection.sni"
    sees: ClassVar[Seen] = Seen.CONNECTION

    def holds(self, access: Access) -> bool:
        return self.values.accepts(access.server_name.encode() or None) is not self.is_not


def _without_parameters(path: bytes) -> bytes:
    """As a servlet container sees it: `/a/..;b/c;d` is `/c`."""
    return without_dots([segment.partition(b";")[0] for segment in path.split(b"/")[1:]])


def _values(head: RequestHead, name: bytes) -> list[bytes]:
    """Of a header, or of what a head has beside its headers."""
    match name:
        case b":authority" | b"host":
            return [head.authority]
        case b":method":
            return [head.method]
        case b":path":
            return [head.target]
        case b"upgrade":
            return [head.upgrade] if head.upgrade else []
    return [value for key, value in head.headers if key == name]
