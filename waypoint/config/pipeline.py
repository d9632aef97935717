"""Compile documents to the snapshot of one waypoint, repeatedly, at the cost of what changed.

    documents → resources → registry → snapshot

Each step keeps its result. Added, removed or changed pods and EndpointSlices affect only their services and those
services' clusters; routes and policies are not compiled again. Any other change, or doubt about what is affected,
compiles everything anew. Both ways give the same result; a test compares them over random changes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import is_not

from l4.config.difference import Difference
from l4.config.documents import Document, Problem
from l4.config.doubts import Doubt
from l4.config.intake import Taken
from l4.config.kinds import Kinds
from l4.config.resources import Resources
from l4.config.settings import Settings
from l4.config.source import Answer
from l4.discovery.index import Update
from l4.discovery.mesh import Mesh
from l4.discovery.pipeline import Discovered, Discovery
from l4.discovery.registry import Registry
from l4.discovery.waypoints import serves
from waypoint.config.compile import Compilation
from waypoint.config.compile_options import options_of
from waypoint.config.gateways import with_address
from waypoint.config.kinds import KINDS
from waypoint.config.leaving import Leaving
from waypoint.config.mentions import Mentions
from waypoint.config.snapshot import Destination, Snapshot

Gateway = tuple[str, str]
"""Namespace and name of a waypoint's Gateway."""

_NOBODY = ("", "")


def bound_gateways(known: Discovered) -> list[Gateway]:
    """Return the Gateways to which a service or a workload is bound. Without any, routes are compiled all the same, to
    report their problems."""
    of_services = (it for service in known.registry.services.values() for it in service.waypoints)
    of_workloads = (workload.waypoint for workload in known.registry.workloads.values())
    found = {(it.namespace, it.gateway) for it in (*of_services, *of_workloads) if it is not None}
    return sorted(found) or [_NOBODY]


@dataclass(frozen=True, slots=True)
class Compiled:
    """The result of a compilation.

    `is_understood`: all documents were readable at least once. `has_new_rules` is False if at most endpoints changed.
    """

    snapshots: Mapping[Gateway, Snapshot]
    known: Discovered
    problems: tuple[Problem, ...]
    has_new_rules: bool

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot of the only Gateway."""
        (only,) = self.snapshots.values()
        return only

    @property
    def taken(self) -> Taken:
        return self.known.taken

    @property
    def registry(self) -> Registry:
        return self.known.registry

    @property
    def documents(self) -> tuple[Document, ...]:
        return self.taken.documents

    @property
    def resources(self) -> Resources:
        return self.taken.resources

    def without_changes(self) -> "Compiled":
        """Return the same without what changed, which would keep what was before in memory."""
        taken = replace(self.taken, difference=Difference((), ()), changes=())
        return replace(self, known=replace(self.known, taken=taken, update=None))

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        return self.taken.doubts


@dataclass(frozen=True, slots=True)
class _Kept:
    compilations: Mapping[Gateway, Compilation]
    denied: frozenset[str]
    leaving: frozenset[str]


class Pipeline:
    """`gateway` is the (namespace, name) of the waypoint's Gateway; `own_ip` is the waypoint's address. Without
    `gateway`, one snapshot is compiled for each Gateway that `serving` returns. `kinds` are those that are read.
    `join` adds what a discovery server sends to what the documents describe. With `leaving`, the waypoint still serves
    services that have just left it; call again after its `rest_seconds`."""

    def __init__(
        self,
        gateway: Gateway | None,
        settings: Settings,
        own_ip: str | None = None,
        *,
        kinds: Kinds = KINDS,
        serving: Callable[[Discovered], list[Gateway]] = bound_gateways,
        join: Callable[[Discovered], Discovered] = lambda known: known,
        leaving: Leaving | None = None,
    ) -> None:
        self.gateway = gateway
        self.leaving = leaving
        self._registry: Registry | None = None
        self._serving = serving
        self._settings = settings
        self._own_ip = own_ip
        self._discovery = Discovery(kinds, settings.of(Mesh), lambda it: with_address(it, settings, gateway))
        self._join = join
        self._kept: _Kept | None = None

    def compile(self, answer: Answer) -> Compiled:
        """Compile documents. After an exception, the next call compiles everything anew."""
        kept, self._kept = self._kept, None
        before = _destinations(kept)
        known = self._join(self._discovery.take(answer))
        leaving = self._leaving(known)
        gateways = [self.gateway] if self.gateway is not None else self._serving(known)
        is_followed = (
            kept is not None
            and known.update is not None
            and not known.has_other_changes
            and kept.denied == known.taken.denied
            and kept.leaving == leaving
            and list(kept.compilations) == gateways
            and _follow(kept.compilations.values(), known.update, known.taken.problems)
        )
        if kept is None or not is_followed:
            mentions = Mentions(known.taken.resources)
            compilations = {it: self._compilation(it, known, mentions, leaving) for it in gateways}
            kept = _Kept(compilations, known.taken.denied, leaving)
        self._kept = kept
        snapshots = {gateway: it.snapshot for gateway, it in kept.compilations.items()}
        problems = _problems(list(snapshots.values()))
        snapshots.pop(_NOBODY, None)
        after = _destinations(kept)
        has_new_rules = len(before) != len(after) or any(map(is_not, before, after))
        return Compiled(snapshots, known, problems, has_new_rules)

    def _leaving(self, known: Discovered) -> frozenset[str]:
        before, self._registry = self._registry, known.registry
        return self.leaving.follow(before, known.registry, known.update) if self.leaving is not None else frozenset()

    def _compilation(
        self, gateway: Gateway, known: Discovered, mentions: Mentions, leaving: frozenset[str]
    ) -> Compilation:
        own_ip = self._own_ip
        if self.gateway is None and not _is_pod_of(gateway, own_ip, known.registry):
            own_ip = None
        options = options_of(self._settings, gateway, own_ip, known.taken.denied, leaving)
        return Compilation(known.taken.resources, known.registry, options, known.taken.problems, mentions)


def _destinations(kept: _Kept | None) -> list[Mapping[tuple[str, int], Destination]]:
    return [it.snapshot.destinations for it in kept.compilations.values()] if kept is not None else []


def _follow(compilations: Iterable[Compilation], update: Update, problems: Iterable[Problem]) -> bool:
    return all(it.follow(update, problems) is not None for it in compilations)


def _problems(snapshots: Sequence[Snapshot]) -> tuple[Problem, ...]:
    if len(snapshots) == 1:
        return snapshots[0].problems
    return tuple(sorted({problem for snapshot in snapshots for problem in snapshot.problems}))


def _is_pod_of(gateway: Gateway, ip: str | None, registry: Registry) -> bool:
    workload = registry.workload_at(ip) if ip else None
    return workload is not None and serves(workload, gateway)
