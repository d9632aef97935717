"""An access (who wants to reach what) and the conditions of AuthorizationPolicy rules.

A condition tests one field of a source, an operation or a `when` clause. It holds when any of its values matches, or,
with `is_not`, when none matches. A field that the access lacks (identity, header, token) matches no list, and therefore
satisfies every `not` list. `Condition.sees` states how much of the access a condition needs: conditions on HTTP fields
cannot be evaluated for raw TCP bytes.
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
    """How much of an access is visible. Each level includes the ones before it."""

    CONNECTION = 0
    TARGET = 1
    """Method, host and path. Known even for a request that was forwarded long ago."""
    HEAD = 2
    """The whole request head, and the claims of its token."""


@dataclass(slots=True)
class Access:
    """A peer's wish to reach `port` of a destination, by a request or by raw bytes.

    `addresses` are all addresses of one service or one workload. `head` is None for raw bytes. `server_name` is the SNI
    of a TLS client.
    """

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
        """The request head. Only HTTP conditions read it; they are never evaluated for raw bytes."""
        assert self.head is not None
        return self.head

    @property
    def remote_ip(self) -> str:
        """The client's address as trusted proxies report it.

        This is the last address in `x-forwarded-for`, which the proxy in front of this one appended, or the peer's own
        address.
        """
        forwarded = _values(self.request, b"x-forwarded-for")
        if not forwarded:
            return self.peer.ip
        last = forwarded[-1].rpartition(b",")[2].strip().decode("latin-1")
        return last if address_of(last) is not None else self.peer.ip


class Condition(Protocol):
    """One test of an access. `key` names the tested field, in the words of a `when` clause where one exists."""

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
    """The peer certificate's principal: `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`."""

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
    """The trust domain of the peer's certificate."""

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
    """`NAMESPACE/ACCOUNT`, in any trust domain."""

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
    """A claim of a verified token: a string or a list of strings. `path` leads to a nested claim."""

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
    """The request path without its query, as forwarded before rewrites.

    Some applications remove `;x=1` parameters from path segments, others do not (CVE-2026-73511). With `is_wide`, set
    on rules that deny, it is enough that one of the two readings holds. Without it, both must hold.
    """

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
    """All values of a header, joined by commas.

    A second value must not bypass a rule (CVE-2026-26308). With `is_wide`, set on rules that deny, it is enough that
    the condition holds for one value alone. On rules that allow, a `not` condition must hold for every value.
    """

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
    """The destination's address. Any address of a service matches, whichever of them the client called."""

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
    """The path as a servlet container reads it: `/a/..;b/c;d` is `/c`."""
    return without_dots([segment.partition(b";")[0] for segment in path.split(b"/")[1:]])


def _values(head: RequestHead, name: bytes) -> list[bytes]:
    """The values of a header, or of a pseudo header that the head stores elsewhere."""
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
