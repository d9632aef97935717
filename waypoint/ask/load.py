"""Compile files for all waypoints of a mesh, by the same steps as the running program."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from l4.config import manifest
from l4.config.collector import paused
from l4.config.documents import Document, FileOrigin, Problem
from l4.config.folder import FolderSource
from l4.config.resources import Resources
from l4.config.settings import Settings
from l4.config.source import Changes, Documents
from l4.discovery.registry import Registry
from waypoint.ask.stand_ins import StandIns
from waypoint.config.pipeline import Gateway, Pipeline
from waypoint.config.settings import ConfigSettings
from waypoint.config.snapshot import Snapshot

STDIN = "stdin"
"""Name of standard input in the origin of documents."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Loaded and compiled files.

    `documents` are the original objects. `ignored` counts objects of kinds that waypoints do not read. `stand_ins` are
    assumed pods.
    """

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
    """Compile for one Gateway, or for all Gateways that serve something.

    Later paths override earlier ones, and standard input overrides all. With `makes_up_pods`, Deployments count as pods
    where no pods are known.
    """
    with paused():
        documents = FolderSource(paths).read()
        if stdin is not None:
            documents = _with_stdin(documents, stdin)
        pipeline = Pipeline(gateway, settings, settings.of(ConfigSettings).instance_ip or None)
        compiled, stand_ins = pipeline.compile(documents), None
        if makes_up_pods:
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


def gateways_in(paths: Iterable[Path]) -> list[str]:
    """Return the names of all Gateways in files."""
    keys = (document.key for document in FolderSource(paths).read().documents)
    return [f"{key.namespace}/{key.name}" for key in keys if key.kind == "Gateway"]
