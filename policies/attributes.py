"""Attributes that policies decide on: the peer, and the heads of requests and responses.

Header names are lower-case bytes throughout; text exists only where configuration is read and logs are written. HTTP
codecs build each head once, after hygiene. Policies treat heads as read-only.
"""

from dataclasses import dataclass, field
from typing import NewType, Self

Header = tuple[bytes, bytes]
Headers = list[Header]

ClusterName = NewType("ClusterName", str)
"""Name of one destination with live state, e.g. `inbound-vip|9080|http|reviews.default.svc.cluster.local`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A workload's SPIFFE identity: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`."""

    trust_domain: str
    namespace: str
    service_account: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Parse a SPIFFE URI of the mesh's form. Raises ValueError with an explanation for any other text."""
        scheme, _, rest = uri.partition("://")
        parts = rest.split("/")
        if scheme != "spiffe" or len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa":
            raise ValueError(f"{uri!r} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")
        trust_domain, _, namespace, _, service_account = parts
        names = (trust_domain, namespace, service_account)
        if len(uri) > 2048 or trust_domain != trust_domain.lower() or not all(map(_is_plain_segment, names)):
            raise ValueError(f"{uri!r} has an empty, escaped or malformed part")
        return cls(*names)

    @property
    def principal(self) -> str:
        """The identity as policies write it: the URI without its scheme."""
        return f"{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    def __str__(self) -> str:
        return f"spiffe://{self.principal}"


def _is_plain_segment(text: str) -> bool:
    # The character set of the SPIFFE ID specification, section 2; "." and ".." are not segments.
    return text not in {"", ".", ".."} and all(c.isascii() and (c.isalnum() or c in "._-") for c in text)


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side of a connection. `identity` is None if the peer did not authenticate."""

    identity: Identity | None
    ip: str
    port: int


class RepeatedHeaders:
    """The headers of a head that a peer sends again and again, also by name.

    `checked` are the framing fields that they may contain, None before `last_look` has checked them. `wire` is their
    form in HTTP/1.1 once it has been checked, and `allowed` the framing fields that it may contain.
    """

    __slots__ = ("allowed", "by_name", "checked", "headers", "wire")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.by_name = dict(headers)
        self.checked: frozenset[bytes] | None = None
        self.wire = b""
        self.allowed: frozenset[bytes] | None = None


@dataclass(slots=True)
class RequestHead:
    """A request's head in canonical form. Policies see byte for byte what is forwarded.

    `path` is everything before the first `?`, and `query` everything after it. `has_query` distinguishes `/a?` from
    `/a`. `headers` holds no pseudo headers and no `host`; the host is `authority`. `upgrade` is the protocol that the
    client wants to switch to (`websocket`); `method` is then GET, whatever the HTTP version puts on the wire (RFC
    8441). `overrides` are the headers that configure this proxy (`policies.overrides`); they appear nowhere else and
    are not forwarded.
    """

    method: bytes
    authority: bytes
    path: bytes
    query: bytes
    headers: Headers
    has_query: bool = False
    upgrade: bytes = b""
    overrides: Headers | None = None
    repeated: RepeatedHeaders | None = field(default=None, repr=False, compare=False)
    """What `headers` began with when they arrived, if the client has sent the same head before."""

    def again(self) -> "RequestHead":
        """Return a copy of an ordinary head, without an upgrade or overrides, for when it comes again."""
        headers = self.headers.copy()
        return RequestHead(
            self.method, self.authority, self.path, self.query, headers, self.has_query, b"", None, self.repeated
        )

    @property
    def target(self) -> bytes:
        return b"%b?%b" % (self.path, self.query) if self.has_query else self.path

    def get(self, name: bytes) -> bytes | None:
        """Return the first value of the header `name` (lower-case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(slots=True)
class ResponseHead:
    status: int
    headers: Headers
    repeated: RepeatedHeaders | None = field(default=None, repr=False, compare=False)

    def again(self) -> "ResponseHead":
        """Return a copy of the head, for when it comes again."""
        return ResponseHead(self.status, self.headers.copy(), self.repeated)

    def get(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None
