"""One destination with its live state: its endpoints, what is under way to each, and idle connections to use again.

This outlives snapshots: `reconcile` takes a new configuration and keeps the state of the endpoints that stay. The
configuration decides nothing here, and nothing here is ever read by it.
"""

from collections.abc import Callable, Container

from policies.balancing.endpoint import Endpoint
from policies.balancing.least_request import pick
from policies.retry_budget import Spending
from policies.session import endpoint_mark
from waypoint.config.snapshot import ClusterConfig
from waypoint.http.client import Http1Client
from waypoint.http.h2_client import ClientStream
from waypoint.upstream.connections import Http2Connections

_MAX_SCOPES = 64  # rules with sessions that lead to one cluster; beyond it their tables are made anew


class LiveEndpoint:
    """An endpoint, how many attempts are under way to it, and its connections: of HTTP/1.1 the idle ones, the last used
    first, and of HTTP/2 all."""

    __slots__ = ("active", "endpoint", "http2", "idle", "is_retired", "weight")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.weight = endpoint.weight
        self.active = 0
        self.idle: list[Http1Client] = []
        self.http2 = Http2Connections()
        self.is_retired = False

    def take(self, *, is_http2: bool) -> Http1Client | ClientStream | None:
        """Somewhere to send a request at once."""
        if is_http2:
            return self.http2.take()
        return self.idle.pop() if self.idle else None

    def free(self, client: Http1Client, now: float) -> None:
        """A connection is done with its exchange: keep it for the next one."""
        if self.is_retired:
            client.close()
        else:
            client.idle_since = now
            self.idle.append(client)

    def gone(self, client: Http1Client) -> None:
        if client in self.idle:
            self.idle.remove(client)

    def retire(self) -> None:
        """The endpoint is no more: exchanges under way finish, nothing new goes there."""
        self.is_retired = True
        for client in list(self.idle):
            client.close()
        self.http2.retire()

    def close_idle(self, before: float) -> None:
        """Close what nobody has used since then; the oldest stand in front."""
        while self.idle and self.idle[0].idle_since < before:
            self.idle[0].close()
        self.http2.close_idle(before)


class Cluster:
    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.endpoints = [LiveEndpoint(endpoint) for endpoint in config.endpoints]
        self._resolved: tuple[Endpoint, ...] = ()
        self.retries = Spending(config.retry_budget)
        self.counts_requests = self.retries.counts_requests
        self._marked: dict[str, dict[bytes, LiveEndpoint]] = {}

    def reconcile(self, config: ClusterConfig) -> None:
        """Take a new configuration for the same name."""
        if config.retry_budget != self.config.retry_budget:
            self.retries.follow(config.retry_budget)
            self.counts_requests = self.retries.counts_requests
        self.config = config
        self._follow()

    def resolve(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Where the names of the configuration lead by now."""
        self._resolved = endpoints
        self._follow()

    def _follow(self) -> None:
        known: dict[Endpoint, LiveEndpoint | None] = {live.endpoint: live for live in self.endpoints}
        wanted = dict.fromkeys((*self.config.endpoints, *self._resolved))
        self.endpoints = [known.pop(endpoint, None) or LiveEndpoint(endpoint) for endpoint in wanted]
        self._marked.clear()
        for live in filter(None, known.values()):
            live.retire()

    def retire(self) -> None:
        for live in self.endpoints:
            live.retire()

    def take_retry(self, now: float) -> bool:
        """Begin a retry, if the budget has room for it; `retries.release` ends it."""
        return self.retries.take(sum(live.active for live in self.endpoints), now)

    def marked(self, scope: str) -> dict[bytes, LiveEndpoint]:
        """The endpoints by the marks that the sessions of a rule give them."""
        marked = self._marked.get(scope)
        if marked is None:
            if len(self._marked) >= _MAX_SCOPES:
                self._marked.clear()
            name = self.config.name
            marked = {endpoint_mark(scope, name, live.endpoint): live for live in self.endpoints}
            self._marked[scope] = marked
        return marked

    def pick(self, roll: Callable[[], float], avoid: Container[Endpoint] = ()) -> LiveEndpoint | None:
        """The next attempt's endpoint, one of those to avoid only when there is no other; None when there is none.

        Envoy rolls again, five times at most, and may end at an avoided endpoint although another one is there.
        """
        endpoints = self.endpoints
        if not endpoints:
            return None
        if len(endpoints) == 1:
            return endpoints[0]
        candidates = [live for live in endpoints if live.endpoint not in avoid] if avoid else endpoints
        return pick(candidates or endpoints, roll(), roll())
