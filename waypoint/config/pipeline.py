"""Documents → the snapshot of one waypoint, again and again, at the cost of what changed.

    documents → resources → registry → snapshot

Each step keeps what it made. Pods and EndpointSlices that come, go or change reach only the services that have them and
the clusters of these; no route and no policy is looked at. Any other change, and any doubt whether more depends on it,
compiles everything anew. Either way comes out what all documents give that are there by now: a test compares the two
over random changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from l4.config.documents import Problem
from l4.config.doubts import Doubt, Understanding
from l4.config.resources import Resources
from l4.config.settings import Settings
from l4.config.sources import Documents
from l4.discovery.kubernetes import Index
from l4.discovery.mesh import Mesh
from waypoint.config.compile import Compilation
from waypoint.config.inputs import compilation_of, decoder_of
from waypoint.config.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Compiled:
    """`is_understood`: everything was, at least once. `has_new_rules` is False where at most endpoints are other
    ones."""

    snapshot: Snapshot
    resources: Resources
    ignored: Mapping[str, int]
    doubts: tuple[Doubt, ...]
    is_understood: bool
    has_new_rules: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    index: Index
    compilation: Compilation
    denied: frozenset[str]


class Pipeline:
    """`gateway` is the namespace and name of the waypoint's Gateway, `own_ip` the address it has."""

    def __init__(self, gateway: tuple[str, str], settings: Settings, own_ip: str | None = None) -> None:
        self._gateway = gateway
        self._settings = settings
        self._own_ip = own_ip
        self._decoder = decoder_of(settings, gateway)
        self._understanding = Understanding()
        self._kept: _Kept | None = None

    def compile(self, documents: Documents) -> Compiled:
        """After an exception the next call compiles everything anew."""
        kept, self._kept = self._kept, None
        decoded = self._decoder.decode(documents.documents)
        doubts = (*documents.doubts, *decoded.doubts)
        denied = self._understanding.take(doubts)
        problems = {*documents.problems, *decoded.problems}
        changes = decoded.changes if kept is not None and kept.denied == denied else None
        update = kept.index.update(changes) if kept is not None and changes is not None else None
        snapshot = kept.compilation.follow(update, problems) if kept is not None and update is not None else None
        if kept is None or snapshot is None:
            index = kept.index if kept is not None and update is not None else None
            kept = self._anew(decoded.resources, index, problems, denied)
        self._kept = kept
        return Compiled(
            kept.compilation.snapshot,
            decoded.resources,
            decoded.ignored,
            doubts,
            self._understanding.is_complete,
            has_new_rules=snapshot is None,
        )

    def _anew(self, resources: Resources, index: Index | None, problems: set[Problem], denied: frozenset[str]) -> _Kept:
        index = index or Index(resources, self._settings.of(Mesh))
        compilation = compilation_of(
            resources,
            index.registry,
            gateway=self._gateway,
            settings=self._settings,
            problems=problems,
            own_ip=self._own_ip,
            denied=denied,
        )
        return _Kept(index, compilation, denied)
