"""Stateless session persistence of the Gateway API (GEP-1619): a client stays with one endpoint.

The client keeps a token, as a cookie or a header. The token names cluster and endpoint by digests. All replicas can
read it, and it does not reveal addresses directly; a guessed address can be verified, as it is not a secret. The token
is not signed, because it grants nothing: a forged token selects among endpoints that any request could reach, and a
forged time only extends a session that the client could start again anyway.

A token is valid for one rule only. A token that names no endpoint or has expired is replaced.
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
# Tokens of earlier releases contain a second time, which is ignored.
_TOKEN = re.compile(rb"([0-9a-f]{6})([0-9a-f]{16})(?:\.([0-9a-f]{1,8})(?:\.[0-9a-f]{1,8})?)?").fullmatch
_MAX_TOKENS = 4  # of one name; cookies of several paths may come together (RFC 6265 section 5.4)
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}").fullmatch
_PATH = re.compile(rb"/[\x21-\x3a\x3c-\x7e]*").fullmatch


@dataclass(slots=True)
class Token:
    """A client's token. `began` is in seconds since 1970; 0 if the session has no timeout."""

    cluster: bytes
    endpoint: bytes
    began: int = 0


@dataclass(frozen=True, slots=True)
class SessionPersistence:
    """Session persistence of one rule. `name` is that of the cookie or of the header (lower-case).

    `path` is the cookie's path; if empty, the browser chooses. A permanent cookie survives the browser for up to
    `absolute_seconds`. Every session ends `absolute_seconds` after it began.
    """

    name: bytes
    is_cookie: bool = True
    path: bytes = b"/"
    absolute_seconds: float | None = None
    is_permanent: bool = False

    def __post_init__(self) -> None:
        if not _NAME(self.name):
            raise ValueError(f"{self.name!r} is not a valid cookie or header name (1 to 128 token characters)")
        if self.path and not _PATH(self.path):
            raise ValueError(f"{self.path!r} is not a valid cookie path")
        if self.is_permanent and self.absolute_seconds is None:
            raise ValueError("a permanent cookie needs an absoluteTimeout, which sets its lifetime")

    def find(self, head: RequestHead, now: float) -> tuple[Token, ...]:
        """Return the request's tokens that have not expired. `now` is wall-clock time."""
        values = self._cookies(head) if self.is_cookie else (v for name, v in head.headers if name == self.name)
        tokens = (self._parse(value, now) for value, _ in zip(values, range(_MAX_TOKENS), strict=False))
        return tuple(token for token in tokens if token is not None)

    def header(self, kept: Token | None, marks: tuple[bytes, bytes], now: float, *, is_secure: bool) -> Header | None:
        """Return the response field that gives the client its token, or None if it already has it.

        `marks` belong to the endpoint that answered; `kept` is the token that selected it, if any.
        """
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
        """Hide the cookie from scripts and other sites, and from plain connections if `is_secure`."""
        cookie = b"%b=%b" % (self.name, value)
        if self.path:
            cookie += b"; Path=" + self.path
        if self.is_permanent and self.absolute_seconds is not None:
            cookie += b"; Max-Age=%d" % self.absolute_seconds
        return cookie + (b"; HttpOnly; SameSite=Strict; Secure" if is_secure else b"; HttpOnly; SameSite=Strict")


@lru_cache(maxsize=4096)
def cluster_mark(scope: str, cluster: ClusterName) -> bytes:
    """Return the digest of a cluster in tokens of `scope`, a rule."""
    return _digest(scope, cluster)[:_CLUSTER_MARK]


@lru_cache(maxsize=16384)
def endpoint_mark(scope: str, cluster: ClusterName, endpoint: Endpoint) -> bytes:
    """Return the digest of an endpoint in tokens of `scope`, a rule."""
    return _digest(scope, cluster, endpoint.ip, str(endpoint.port))[:_ENDPOINT_MARK]


def generated_name(owner: str) -> bytes:
    """Return a default name for the sessions of `owner`. It is the same on every replica."""
    return b"waypoint-session-" + _digest(owner)[:8]


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest().encode()
