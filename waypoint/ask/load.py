"""Compile files or an API server's objects for all waypoints of a mesh, by the same steps as the running program."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from l4.config import manifest
from l4.config.collector import paused
from l4.config.documents import Document, FileOrigin, Problem
from l4.config.resources import Resources
from l4.config.settings import Settings
from l4.config.source import CannotRead, Changes, Documents
from l4.configuration import read
from l4.discovery.objects import Gateway as GatewayObject
from l4.discovery.registry import Registry
from l4.kubernetes.options import KubernetesOptions
from waypoint.ask.stand_ins import StandIns
from waypoint.config.kinds import KINDS
from waypoint.config.pipeline import Gateway, Pipeline
from waypoint.config.settings import ConfigSettings
from waypoint.config.snapshot import Snapshot

Source = Iterable[Path] | KubernetesOptions
"""Files, or an API server."""

STDIN = "stdin"
"""Name of standard input in the origin of documents."""
_COMPLETION_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """Loaded and compiled objects.

    `documents` are the original objects, `place` says where they are. `ignored` counts objects of kinds that
    waypoints do not read. `stand_ins` are assumed pods.
    """

    documents: tuple[Document, ...]
    resources: Resources
    registry: Registry
    snapshots: Mapping[Gateway, Snapshot]
    problems: tuple[Problem, ...]
    ignored: Mapping[str, int]
    place: str
    stand_ins: StandIns | None = None


def load(
    source: Source,
    gateway: Gateway | None,
    settings: Settings,
    stdin: bytes | None = None,
    *,
    makes_up_pods: bool = False,
) -> Loaded:
    """Compile for one Gateway, or for all Gateways that serve something.

    Later paths override earlier ones, and standard input overrides all. With `makes_up_pods`, Deployments count as pods
    where no pods are known; an API server knows all pods. Raises CannotRead.
    """
    with paused():
        documents, place = read(source, KINDS)
        if stdin is not None:
            documents = _with_stdin(documents, stdin)
        pipeline = Pipeline(gateway, settings, settings.of(ConfigSettings).instance_ip or None)
        compiled, stand_ins = pipeline.compile(documents), None
        if makes_up_pods and not isinstance(source, KubernetesOptions):
            stand_ins = StandIns(documents.documents, compiled.resources)
            made_up = Changes(stand_ins.documents, (), documents.problems, documents.doubts)
            compiled = pipeline.compile(made_up) if stand_ins.documents else compiled
        return Loaded(
            documents.documents,
            compiled.resources,
            compiled.registry,
            compiled.snapshots,
            compiled.problems,
            compiled.taken.ignored,
            place,
            stand_ins,
        )


def _with_stdin(documents: Documents, text: bytes) -> Documents:
    try:
        read, problems = manifest.parse(STDIN, text)
    except ValueError as error:
        sentence, line = error.args
        read, problems = [], [Problem(FileOrigin(STDIN, line), STDIN, "", sentence)]
    merged = {document.key: document for document in (*documents.documents, *read)}
    ordered = sorted(merged.values(), key=lambda document: document.key)
    return Documents(tuple(ordered), (*documents.problems, *problems), documents.doubts)


def gateways_in(source: Source) -> list[str]:
    """Return the names of all Gateways, for a shell that waits; none if an API server does not answer soon."""
    kind = ("gateway.networking.k8s.io", "Gateway")
    try:
        documents, _ = read(source, KINDS.reading({kind: GatewayObject}), _COMPLETION_SECONDS)
    except CannotRead:
        return []
    keys = (document.key for document in documents.documents)
    return [f"{key.namespace}/{key.name}" for key in keys if key.kind == "Gateway"]
