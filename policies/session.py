"""Which endpoint a client stays with: the Gateway API's session persistence (GEP-1619), without any state of ours.

The client keeps a token, as a cookie or as a header, and the token names cluster and endpoint by digests, so that all
replicas read it alike and nobody reads an address out of it by looking (who may guess addresses can test the guess: it
is no secret). It is not signed, because nothing is granted by it: a forged one chooses among the endpoints that a
request without one could have met, and forged times make a session that its client could as well begin anew.

A token is worth nothing under another rule. One that names nobody, or has expired, is replaced.
https://gateway-api.sigs.k8s.io/geps/gep-1619/
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from policies.attributes import ClusterName, Header, RequestHead
from policies.balancing.endpoint import Endpoint

_CLUSTER_MARK, _ENDPOINT_MARK = 6, 16
# Tokens of former releases have a second time, which means nothing any more.
_TOKEN = re.compile(rb"([0-9a-f]{6})([0-9a-f]{16})(?:\.([0-9a-f]{1,8})(?:\.[0-9a-f]{1,8})?)?").fullmatch
_MAX_TOKENS = 4  # of one name; cookies of several paths may come together (RFC 6265 section 5.4)
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}").fullmatch
_PATH = re.compile(rb"/[\x21-\x3a\x3c-\x7e]*").fullmatch


@dataclass(slots=True)
class Token:
    """What a client brought. It began so many seconds after 1970; 0 where no timeout needs to know."""

    cluster: bytes
    endpoint: bytes
    began: int = 0


@dataclass(frozen=True, slots=True)
class SessionPersistence:
    """`name` is that of the cookie, or of the header (lower-case). `path` is the cookie's; empty leaves it to the
    browser. A permanent cookie outlives the browser, up to `absolute_seconds`; any session ends when that has passed
    since it began."""

    name: bytes
    is_cookie: bool = True
    path: bytes = b"/"
    absolute_seconds: float | None = None
    is_permanent: bool = False

    def __post_init__(self) -> None:
        if not _NAME(self.name):
            raise ValueError(f"{self.name!r} cannot be the name of a cookie or header: it is empty, long, or no token")
        if self.path and not _PATH(self.path):
            raise ValueError(f"{self.path!r} cannot be the path of a cookie")
        if self.is_permanent and self.absolute_seconds is None:
            raise ValueError("a permanent cookie needs an absoluteTimeout, which says how long it lives")

    def find(self, head: RequestHead, now: float) -> tuple[Token, ...]:
        """The tokens that this request brings and that have not expired; `now` is wall-clock time."""
        values = self._cookies(head) if self.is_cookie else (v for name, v in head.headers if name == self.name)
        tokens = (self._parse(value, now) for value, _ in zip(values, range(_MAX_TOKENS), strict=False))
        return tuple(token for token in tokens if token is not None)

    def header(self, kept: Token | None, marks: tuple[bytes, bytes], now: float, *, is_secure: bool) -> Header | None:
        """The field of a response that tells the client where its session is; None when it knows. `marks` are those of
        the endpoint that answered, `kept` is the token that led there, if one did."""
        if kept is not None:
            return None
        value = b"".join(marks)
        if self.absolute_seconds is not None:
            value = b"%b.%x" % (value, int(now))
        if not self.is_cookie:
            return self.name, value
        return b"set-cookie", self._cookie(value, is_secure)

    def _cookies(self, head: RequestHead) -> Iterator[bytes]:
        for header, value in head.headers:
            if header == b"cookie":
                for pair in value.split(b";"):
                    name, _, content = pair.strip(b" \t").partition(b"=")
                    if name == self.name:
                        yield content.strip(b'"')

    def _parse(self, value: bytes, now: float) -> Token | None:
        match = _TOKEN(value)
        if match is None:
            return None
        cluster, endpoint, began = match.groups(b"0")
        token = Token(cluster, endpoint, int(began, 16))
        if self.absolute_seconds is not None and now - token.began >= self.absolute_seconds:
            return None
        return token

    def _cookie(self, value: bytes, is_secure: bool) -> bytes:
        """Kept from scripts and other sites; and from plain connections, unless the client's own is one."""
        cookie = b"%b=%b" % (self.name, value)
        if self.path:
            cookie += b"; Path=" + self.path
        if self.is_permanent and self.absolute_seconds is not None:
            cookie += b"; Max-Age=%d" % self.absolute_seconds
        return cookie + (b"; HttpOnly; SameSite=Strict; Secure" if is_secure else b"; HttpOnly; SameSite=Strict")


@lru_cache(maxsize=4096)
def cluster_mark(scope: str, cluster: ClusterName) -> bytes:
    """How the sessions of `scope`, which is a rule, name a cluster."""
    return _digest(scope, cluster)[:_CLUSTER_MARK]


@lru_cache(maxsize=16384)
def endpoint_mark(scope: str, cluster: ClusterName, endpoint: Endpoint) -> bytes:
    return _digest(scope, cluster, endpoint.ip, str(endpoint.port))[:_ENDPOINT_MARK]


def generated_name(owner: str) -> bytes:
    """For a session without a name of its own: the same on every replica, and another one for every owner."""
    return b"waypoint-session-" + _digest(owner)[:8]


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest().encode()
