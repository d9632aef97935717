"""Consistent hashing for one exchange. A client without a key gets one in a cookie."""

from collections.abc import Callable, Container
from typing import Protocol

from policies.attributes import Headers
from policies.balancing.endpoint import Endpoint
from policies.balancing.hash_key import KeySource
from waypoint.upstream.attempts import Picker
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.endpoint import LiveEndpoint


class Sticky(Picker, Protocol):
    """Selects an exchange's endpoint, and reports it to the client."""

    def mark(self, headers: Headers, endpoint: Endpoint, now: float) -> None: ...


class Affinity:
    """`key` is the request's key. `new_key` creates one for a client without."""

    __slots__ = ("_cluster", "_cookie", "_key")

    def __init__(self, cluster: Cluster, source: KeySource, key: bytes | None, new_key: Callable[[], bytes]) -> None:
        self._cluster = cluster
        self._cookie: bytes | None = None
        if key is None and source.ttl_seconds is not None:
            key = new_key()
            self._cookie = source.set_cookie(key)
        self._key = key

    def pick(self, roll: Callable[[], float], avoid: Container[Endpoint]) -> LiveEndpoint | None:
        return self._cluster.pick(roll, avoid, self._key)

    def mark(self, headers: Headers, endpoint: Endpoint, now: float) -> None:
        """Add the cookie for a client without a key."""
        if self._cookie is not None:
            headers.append((b"set-cookie", self._cookie))
