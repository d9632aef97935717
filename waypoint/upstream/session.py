"""Session persistence of one exchange: select the session's endpoint, and tell the client in the response."""

from collections.abc import Callable, Container

from policies.attributes import Headers
from policies.balancing.endpoint import Endpoint
from policies.session import SessionPersistence, Token, cluster_mark, endpoint_mark
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.endpoint import LiveEndpoint


class Session:
    """`tokens` are those of the client. `scope` is the rule for which they are valid."""

    __slots__ = ("_cluster", "_is_secure", "_policy", "_scope", "_tokens")

    def __init__(
        self, policy: SessionPersistence, scope: str, tokens: tuple[Token, ...], cluster: Cluster, *, is_secure: bool
    ) -> None:
        self._policy = policy
        self._scope = scope
        self._tokens = tokens
        self._cluster = cluster
        self._is_secure = is_secure

    def pick(self, roll: Callable[[], float], avoid: Container[Endpoint]) -> LiveEndpoint | None:
        """Return the session's endpoint if it is available and untried, else pick as usual."""
        cluster = self._cluster
        mark = cluster_mark(self._scope, cluster.config.name)
        for token in self._tokens:
            if token.cluster == mark:
                live = cluster.marked(self._scope).get(token.endpoint)
                if live is not None and live.endpoint not in avoid and not live.is_left_alone:
                    return live
        return cluster.pick(roll, avoid)

    def mark(self, headers: Headers, endpoint: Endpoint, now: float) -> None:
        """Add the endpoint's token to the response, unless the client already has it."""
        name = self._cluster.config.name
        marks = cluster_mark(self._scope, name), endpoint_mark(self._scope, name, endpoint)
        kept = next((token for token in self._tokens if (token.cluster, token.endpoint) == marks), None)
        header = self._policy.header(kept, marks, now, is_secure=self._is_secure)
        if header is not None:
            headers.append(header)
