"""All that a decision may look at: who asks, and the head of what is asked.

Header names are lower-case bytes from wire to wire; text exists only at the configuration and log borders.
Heads are made once per request by the HTTP codecs, after hygiene, and treated as read-only by policies.
"""

from dataclasses import dataclass
from typing import NewType, Self

Header = tuple[bytes, bytes]
Headers = list[Header]

ClusterName = NewType("ClusterName", str)
"""Names one destination with live state, e.g. `inbound-vip|9080|http|reviews.default.svc.cluster.local`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A workload's SPIFFE identity: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`."""

    trust_domain: str
    namespace: str
    service_account: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read a SPIFFE URI of the mesh's form; raises ValueError with a sentence for any other."""
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
    """The other side of a connection. `identity` is None when it did not authenticate itself."""

    identity: Identity | None
    ip: str
    port: int


@dataclass(slots=True)
class RequestHead:
    """A request's head in canonical form: what policies see is byte for byte what is forwarded.

    `path` is everything before the first `?`, `query` everything after it (empty when there is none, and
    `has_query` tells `/a?` from `/a`). `headers` holds no pseudo header and no `host`: that is `authority`.
    `upgrade` is the protocol that the client asks to change to, `websocket`; the method is GET then, whatever the
    version of HTTP makes of it on the wire (RFC 8441). `overrides` are the headers by which the client asks something
    of us (`policies.overrides`); they stand nowhere else, and go no further.
    """

    method: bytes
    authority: bytes
    path: bytes
    query: bytes
    headers: Headers
    has_query: bool = False
    upgrade: bytes = b""
    overrides: Headers | None = None

    @property
    def target(self) -> bytes:
        return b"%b?%b" % (self.path, self.query) if self.has_query else self.path

    def get(self, name: bytes) -> bytes | None:
        """The first value of the header with this lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(slots=True)
class ResponseHead:
    status: int
    headers: Headers

    def get(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None
