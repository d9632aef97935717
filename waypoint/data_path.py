"""What exchanges share: the parts of the process, and the inner connection they came on."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from l4.config.holder import Holder
from l4.config.settings import Settings
from l4.net.copy import Copy
from l4.net.deadlines import Deadlines
from policies.attributes import Peer
from policies.balancing.endpoint import WorkloadLabels
from waypoint.authentication.tokens import Tokens
from waypoint.config.snapshot import Snapshot
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
    """What every exchange of this process shares. `exchanges` counts those under way, and `max_exchanges` bounds them:
    0 while memory is scarce."""

    holder: Holder[Snapshot]
    clusters: Clusters
    tokens: Tokens
    originator: Originator
    telemetry: Telemetry
    tracer: "Tracer | None"
    settings: Settings
    spawn: Spawn
    loop: asyncio.AbstractEventLoop
    live: LiveFilters
    exchanges: int = 0
    recorder: Recorder | None = None
    opaque: "dict[Copy, tuple[Connection, str]]" = field(default_factory=dict)
    """The joined bytes that pass, with the server name that their client asked for."""
    max_exchanges: int = field(init=False)
    upstream: UpstreamSettings = field(init=False)
    deadlines: Deadlines = field(init=False)

    def __post_init__(self) -> None:
        self.max_exchanges = self.settings.of(HttpSettings).max_exchanges
        self.upstream = self.settings.of(UpstreamSettings)
        self.deadlines = Deadlines(self.loop)


class Connection:
    """What the exchanges of one inner connection share: who is at the other end, and where it meant to go."""

    __slots__ = ("_baggage", "_labels", "_snapshot", "authority", "path", "peer")

    def __init__(self, path: DataPath, peer: Peer, authority: tuple[str, int], baggage: bytes) -> None:
        self.path = path
        self.peer = peer
        self.authority = authority
        self._baggage = baggage
        self._snapshot: Snapshot | None = None
        self._labels = WorkloadLabels()

    def source(self, snapshot: Snapshot) -> WorkloadLabels:
        """The client workload as the snapshot knows it."""
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._labels = self.path.telemetry.sources.find(self.peer, snapshot.registry, self._baggage)
        return self._labels
