"""Destinations without own endpoints, whose requests go to the called address or to the resolved host of the request.

Each address or host gets a small cluster, a branch, on first use. All branches of a destination share its circuit
breaker and retry budget. Their number is bounded: idle branches are removed after some time, and the least recently
used first if room is needed.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Generic, Protocol, TypeVar

from l4.discovery.networks import Networks
from l4.discovery.registry import Registry
from l4.discovery.workload import Followed, Follows, NamedEndpoint
from policies.balancing.endpoint import Endpoint
from policies.host_pattern import HostPattern
from waypoint.config.snapshot import ClusterConfig
from waypoint.errors import NoHealthyEndpoint, RouteNotFound, UpstreamOverflow

log = logging.getLogger(__name__)

MAX_BRANCHES = 1024
"""Limit per destination; Envoy's limit for a dynamic forward proxy."""
IDLE_SECONDS = 300.0
_BUSY_SECONDS = 10.0  # longer than a DNS lookup, since a request that just got its branch may not have started yet
_MAX_LOOKS = 16  # branches examined for removal when room is needed
_Key = tuple[str, str, str]


class Live(Protocol):
    @property
    def is_busy(self) -> bool:
        """Whether any attempt is active."""


C = TypeVar("C", bound=Live)


class _Branch(Generic[C]):
    __slots__ = ("cluster", "config", "used_at")

    def __init__(self, cluster: C, config: Callable[[], ClusterConfig]) -> None:
        self.cluster = cluster
        self.config = config
        self.used_at = 0.0

    def is_idle(self, since: float) -> bool:
        return self.used_at <= since and not self.cluster.is_busy


class Branches(Generic[C]):
    """`begin` creates a live cluster for a configuration, `change` reconfigures it, and `end` releases it."""

    def __init__(
        self,
        config: ClusterConfig,
        begin: Callable[[ClusterConfig], C],
        change: Callable[[C, ClusterConfig], None],
        end: Callable[[C], None],
        clock: Callable[[], float],
    ) -> None:
        assert config.followed is not None
        self._config = config
        self._followed = config.followed
        self._hosts = HostPattern(config.followed.hosts)
        self._networks = Networks((network, True) for network in config.followed.networks)
        self._begin = begin
        self._change = change
        self._end = end
        self._clock = clock
        self._branches: OrderedDict[_Key, _Branch[C]] = OrderedDict()

    def __iter__(self) -> Iterator[C]:
        return (branch.cluster for branch in self._branches.values())

    def __len__(self) -> int:
        return len(self._branches)

    def at(self, called: str, host: bytes, registry: Registry) -> C:
        """Return the branch for a request to the address or name `called` with the authority `host`, which may be
        empty.

        Raises RouteNotFound for a host outside the destination, NoHealthyEndpoint for an address outside it, and
        UpstreamOverflow.
        """
        if self._followed.by is Follows.HOST:
            return self._of_host(host or called.encode())
        return self._of_address(called, host, registry)

    @property
    def followed(self) -> Followed:
        return self._followed

    def follow(self, config: ClusterConfig) -> None:
        """Apply a new configuration of the same kind. Branches keep their state."""
        self._config = config
        for branch in self._branches.values():
            self._change(branch.cluster, branch.config())

    def close(self) -> None:
        while self._branches:
            self._end(self._branches.popitem()[1].cluster)

    def sweep(self) -> None:
        """Remove idle branches, least recently used first."""
        since = self._clock() - IDLE_SECONDS
        for key, branch in list(self._branches.items()):
            if branch.used_at > since:
                break
            if branch.is_idle(since):
                self._remove(key)

    def _of_host(self, host: bytes) -> C:
        name = self._hosts.name_of(host)
        if name is None:
            raise RouteNotFound
        key = name, "", ""
        return self._known(key) or self._added(key, lambda: self._looked_up(name))

    def _of_address(self, ip: str, host: bytes, registry: Registry) -> C:
        if self._networks.find(ip) is None:
            raise NoHealthyEndpoint
        name = self._hosts.name_of(host) if self._config.tls is not None else None
        workload = registry.workload_at(ip)
        identity = workload.tunnel_identity if workload is not None else None
        key = ip, name or "", str(identity or "")
        found = self._known(key)
        if found is not None:
            return found
        labels = (workload or self._followed.workload).metric_labels
        port = self._followed.ports[self._config.port]
        endpoint = Endpoint(ip, port, identity, labels)
        return self._added(key, lambda: self._with(name, endpoints=(endpoint,)))

    def _looked_up(self, name: str) -> ClusterConfig:
        return self._with(name, names=(NamedEndpoint(name, self._followed.ports, 1, self._followed.workload),))

    def _with(
        self, name: str | None, endpoints: tuple[Endpoint, ...] = (), names: tuple[NamedEndpoint, ...] = ()
    ) -> ClusterConfig:
        """Return the configuration of a branch. TLS uses the request's host, unless the rule configures a name."""
        tls = self._config.tls
        if tls is not None and name is not None and tls.server_name == self._config.service.hostname:
            tls = replace(tls, host=name)
        endpoints = tuple(replace(it, tls=tls) for it in endpoints)
        return replace(self._config, followed=None, endpoints=endpoints, names=names, tls=tls)

    def _known(self, key: _Key) -> C | None:
        branch = self._branches.get(key)
        if branch is None:
            return None
        branch.used_at = self._clock()
        self._branches.move_to_end(key)
        return branch.cluster

    def _added(self, key: _Key, config: Callable[[], ClusterConfig]) -> C:
        if len(self._branches) >= MAX_BRANCHES:
            self._make_room()
        branch = self._branches[key] = _Branch(self._begin(config()), config)
        branch.used_at = self._clock()
        return branch.cluster

    def _make_room(self) -> None:
        since = self._clock() - _BUSY_SECONDS
        for key, branch in list(islice(self._branches.items(), _MAX_LOOKS)):
            if branch.is_idle(since):
                self._remove(key)
                return
        what = "hosts" if self._followed.by is Follows.HOST else "addresses"
        log.warning(
            "%s: %d %s are in use at once; requests for others are answered with 503",
            *(self._config.name, len(self._branches), what),
        )
        raise UpstreamOverflow

    def _remove(self, key: _Key) -> None:
        self._end(self._branches.pop(key).cluster)
