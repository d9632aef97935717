"""Files → what the waypoints of a mesh would make of them, by the steps of the running program, without running it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from l4.config import manifest
from l4.config.collector import paused
from l4.config.documents import Document, FileOrigin, Problem
from l4.config.doubts import Understanding
from l4.config.resources import Resources
from l4.config.settings import Settings
from l4.config.sources import Documents, FolderSource
from l4.discovery.registry import Registry
from waypoint.ask.stand_ins import StandIns
from waypoint.config.inputs import compilation_of, decoder_of, registry_of
from waypoint.config.snapshot import Snapshot

Gateway = tuple[str, str]
"""Namespace and name of a waypoint's Gateway."""

STDIN = "stdin"
"""What the origin of a document calls standard input."""
_NOBODY = ("", "")


@dataclass(frozen=True, slots=True)
class Loaded:
    """`documents` are as they were written; `ignored` counts those of kinds that a waypoint does not read. `stand_ins`
    are the pods that were made up."""

    documents: tuple[Document, ...]
    resources: Resources
    registry: Registry
    snapshots: Mapping[Gateway, Snapshot]
    problems: tuple[Problem, ...]
    ignored: Mapping[str, int]
    stand_ins: StandIns | None = None


def load(
    paths: Iterable[Path],
    gateway: Gateway | None,
    settings: Settings,
    stdin: bytes | None = None,
    *,
    makes_up_pods: bool = False,
) -> Loaded:
    """The snapshot of one Gateway, or those of all that serve something. Later paths win over earlier ones, and what
    came by standard input, if anything, over all of them. With `makes_up_pods`, Deployments stand for their pods where
    none are known."""
    with paused():
        documents = FolderSource(paths).load()
        with_stdin = documents if stdin is None else _with_stdin(documents, stdin)
        return _compiled(with_stdin, gateway, settings, makes_up_pods=makes_up_pods)


def _with_stdin(documents: Documents, text: bytes) -> Documents:
    try:
        read, problems = manifest.parse(STDIN, text)
    except ValueError as error:
        sentence, line = error.args
        read, problems = [], [Problem(FileOrigin(STDIN, line), STDIN, "", sentence)]
    merged = {document.key: document for document in (*documents.documents, *read)}
    ordered = sorted(merged.values(), key=lambda document: document.key)
    return Documents(tuple(ordered), (*documents.problems, *problems), documents.doubts)


def _compiled(documents: Documents, gateway: Gateway | None, settings: Settings, *, makes_up_pods: bool) -> Loaded:
    decoded = decoder_of(settings, gateway).decode(documents.documents)
    stand_ins = StandIns(documents.documents, decoded.resources) if makes_up_pods else None
    resources = decoded.resources if stand_ins is None else decoded.resources.joined(stand_ins.pods)
    registry = registry_of(resources, settings)
    denied = Understanding().take((*documents.doubts, *decoded.doubts))
    snapshots = {
        each: compilation_of(
            resources,
            registry,
            gateway=each,
            settings=settings,
            problems={*documents.problems, *decoded.problems},
            denied=denied,
        ).snapshot
        # Without any waypoint routes are read all the same, for what is wrong with them.
        for each in ((_serving(registry) or [_NOBODY]) if gateway is None else [gateway])
    }
    told = [problem for snapshot in snapshots.values() for problem in snapshot.problems]
    snapshots.pop(_NOBODY, None)
    return Loaded(
        documents.documents,
        resources,
        registry,
        snapshots,
        tuple(sorted({*documents.problems, *decoded.problems, *registry.problems, *told})),
        decoded.ignored,
        stand_ins,
    )


def gateways_in(paths: Iterable[Path]) -> list[str]:
    """The names of all Gateways in files."""
    keys = (document.key for document in FolderSource(paths).load().documents)
    return [f"{key.namespace}/{key.name}" for key in keys if key.kind == "Gateway"]


def _serving(registry: Registry) -> list[Gateway]:
    """The Gateways to which a service or a workload is bound."""
    of_services = (service.waypoint for service in registry.services.values())
    of_workloads = (workload.waypoint for workload in registry.workloads.values())
    return sorted({(it.namespace, it.gateway) for it in (*of_services, *of_workloads) if it is not None})
