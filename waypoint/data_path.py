"""State that exchanges share: process-wide parts, and the inner connection of an exchange."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from l4.config.holder import Holder
from l4.config.settings import Settings
from l4.net.copy import Copy
from l4.net.deadlines import Deadlines
from l4.telemetry.tally import Tally
from policies.access import Access
from policies.attributes import Peer
from policies.authorization import Authorization, Rules
from policies.balancing.endpoint import WorkloadLabels
from policies.telemetry import Collector
from waypoint.authentication.tokens import Tokens
from waypoint.config.snapshot import Destination, Snapshot
from waypoint.filters.live import LiveFilters
from waypoint.http.settings import HttpSettings
from waypoint.telemetry.exchanges import Telemetry
from waypoint.telemetry.recorder import Recorder
from waypoint.upstream.clusters import Clusters
from waypoint.upstream.connections import Spawn
from waypoint.upstream.originate import Originator
from waypoint.upstream.settings import UpstreamSettings

if TYPE_CHECKING:
    from waypoint.telemetry.spans import Tracer


@dataclass(slots=True)
class DataPath:
    """Parts shared by all exchanges of a worker.

    `exchanges` is the number of active exchanges, and `max_exchanges` its limit, which is 0 while memory is scarce.
    """

    holder: Holder[Snapshot]
    clusters: Clusters
    tokens: Tokens
    originator: Originator
    telemetry: Telemetry
    tracer: "Tracer | None"
    settings: Settings
    spawn: Spawn
    loop: asyncio.AbstractEventLoop
    filters: LiveFilters
    exchanges: int = 0
    recorder: Recorder | None = None
    collectors: "Mapping[Collector, Tracer]" = field(default_factory=dict)
    """The tracers of collectors that Telemetry objects name."""
    opaque: "dict[Copy, Opaque]" = field(default_factory=dict)
    """Active opaque connections."""
    max_exchanges: int = field(init=False)
    upstream: UpstreamSettings = field(init=False)
    deadlines: Deadlines = field(init=False)

    def __post_init__(self) -> None:
        self.max_exchanges = self.settings.of(HttpSettings).max_exchanges
        self.upstream = self.settings.of(UpstreamSettings)
        self.deadlines = Deadlines(self.loop)


class Connection:
    """State shared by the exchanges of one inner connection: the peer and the CONNECT authority."""

    __slots__ = (
        "_addresses",
        "_authorization",
        "_baggage",
        "_labels",
        "_rules",
        "_version",
        "authority",
        "path",
        "peer",
    )

    def __init__(self, path: DataPath, peer: Peer, authority: tuple[str, int], baggage: bytes) -> None:
        self.path = path
        self.peer = peer
        self.authority = authority
        self._baggage = baggage
        # Neither the snapshot nor a destination, which an idle connection would keep for hours with all its routes.
        self._version = ""
        self._labels = WorkloadLabels()
        self._addresses: tuple[str, ...] | None = None
        self._authorization: Authorization | None = None
        self._rules: Rules | None = None

    def source(self, snapshot: Snapshot) -> WorkloadLabels:
        """The client workload according to the snapshot."""
        if snapshot.version != self._version:
            self._version = snapshot.version
            self._labels = self.path.telemetry.sources.find(self.peer, snapshot.registry, self._baggage)
        return self._labels

    def rules(self, destination: Destination) -> Rules | None:
        """The destination's authorization rules that depend on the request, None without AuthorizationPolicies.

        They also depend on the port, which is that of the connection's authority.
        """
        authorization = destination.authorization
        if destination.addresses is not self._addresses or authorization is not self._authorization:
            self._addresses, self._authorization = destination.addresses, authorization
            access = Access(self.peer, destination.addresses, destination.port)
            self._rules = authorization.rules.left_by(access) if authorization is not None else None
        return self._rules


@dataclass(slots=True)
class Opaque:
    """An open connection of other bytes than HTTP. `server_name` is what the client asked for in TLS."""

    connection: Connection
    server_name: str
    received: Tally
    sent: Tally

    def report(self, copy: Copy) -> None:
        """Count the bytes that have passed since the last time."""
        self.received.reach(copy.received)
        self.sent.reach(copy.sent)
