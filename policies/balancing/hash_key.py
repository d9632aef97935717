"""The part of a request that consistent hashing uses: equal keys go to the same endpoint (`consistentHash`).

https://istio.io/latest/docs/reference/config/networking/destination-rule/#LoadBalancerSettings-ConsistentHashLB
"""

from dataclasses import dataclass
from enum import StrEnum

from policies.attributes import Peer, RequestHead
from policies.query import parse_query


class KeyKind(StrEnum):
    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query parameter"
    SOURCE_IP = "source address"


@dataclass(frozen=True, slots=True)
class KeySource:
    """`name` is that of the header (lower-case), cookie or query parameter.

    A client without the cookie gets one with `path` and `attributes`, valid for `ttl_seconds` (0: until the browser is
    closed). With `ttl_seconds` None, no cookie is set.
    """

    kind: KeyKind
    name: bytes = b""
    path: bytes = b""
    ttl_seconds: int | None = None
    attributes: tuple[tuple[bytes, bytes], ...] = ()

    def find(self, head: RequestHead, peer: Peer) -> bytes | None:
        """Return the request's key, or None."""
        match self.kind:
            case KeyKind.HEADER:
                return head.get(self.name)
            case KeyKind.COOKIE:
                return _cookie(head, self.name)
            case KeyKind.QUERY:
                return parse_query(head.query).get(self.name)
            case KeyKind.SOURCE_IP:
                return peer.ip.encode()

    def set_cookie(self, value: bytes) -> bytes:
        """Return the `set-cookie` value that gives a client its key."""
        parts = [b"%b=%b" % (self.name, value)]
        if self.ttl_seconds:
            parts.append(b"Max-Age=%d" % self.ttl_seconds)
        if self.path:
            parts.append(b"Path=%b" % self.path)
        parts += [b"%b=%b" % (name, value) if value else name for name, value in self.attributes]
        return b"; ".join([*parts, b"HttpOnly"])


def _cookie(head: RequestHead, name: bytes) -> bytes | None:
    for key, value in head.headers:
        if key == b"cookie":
            for pair in value.split(b";"):
                its_name, _, its_value = pair.strip().partition(b"=")
                if its_name == name:
                    return its_value
    return None
