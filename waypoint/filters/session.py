"""The filter of a rule's `sessionPersistence`. The session's token chooses the backend and its endpoint.

A Service's session persistence and consistent hashing belong to the cluster: they choose only the endpoint. `sticky`
covers both.
"""

from collections.abc import Callable, Iterator

from policies.attributes import Peer, RequestHead
from policies.route import Rule, WeightedBackend
from policies.session import SessionPersistence, Token, cluster_mark
from waypoint.config.words import text
from waypoint.filters.filter import Filter, Filtering
from waypoint.filters.part import Part
from waypoint.upstream.affinity import Affinity, Sticky
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.session import Session


class Sessions(Filter[SessionPersistence]):
    types = (SessionPersistence,)

    def request_head(self, policy: SessionPersistence, request: Filtering) -> None:
        assert request.rule is not None
        tokens = policy.find(request.head, request.now)
        if tokens:
            request.backend = _kept(request.rule, tokens)
        request.attach(_Kept(policy, tokens, request.rule, request.head))

    def words(self, policy: SessionPersistence) -> Iterator[str]:
        yield f"sessions by {'cookie' if policy.is_cookie else 'header'} {text(policy.name)}"


class _Kept(Part):
    """Chooses the endpoint of the session."""

    __slots__ = ("_head", "_policy", "_rule", "_tokens")

    def __init__(self, policy: SessionPersistence, tokens: tuple[Token, ...], rule: Rule, head: RequestHead) -> None:
        self._policy = policy
        self._tokens = tokens
        self._rule = rule
        self._head = head

    def picker(self, cluster: Cluster) -> Sticky:
        return Session(self._policy, self._rule.scope, self._tokens, cluster, is_secure=_is_secure(self._head))


def sticky(
    cluster: Cluster, rule: Rule, head: RequestHead, peer: Peer, now: float, new_key: Callable[[], bytes]
) -> Sticky | None:
    """Return the picker for a cluster's own sessions or hashing, if the cluster has any."""
    policy, source = cluster.config.session, cluster.config.balancing.key
    if policy is not None:
        return Session(policy, rule.scope, policy.find(head, now), cluster, is_secure=_is_secure(head))
    return Affinity(cluster, source, source.find(head, peer), new_key) if source is not None else None


def _kept(rule: Rule, tokens: tuple[Token, ...]) -> WeightedBackend | None:
    """Return the session's backend, even if its weight is 0 now."""
    for token in tokens:
        for backend in rule.backends:
            if backend.cluster is not None and cluster_mark(rule.scope, backend.cluster) == token.cluster:
                return backend
    return None


def _is_secure(head: RequestHead) -> bool:
    return head.get(b"x-forwarded-proto") == b"https"
