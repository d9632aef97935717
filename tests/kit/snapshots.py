"""Compile manifests to a snapshot, by all steps of production except reading files."""

from collections.abc import Callable, Iterable

from l4.config import manifest
from l4.config.documents import Document, ObjectKey, Problem
from l4.config.kinds import Kinds
from l4.config.settings import Settings
from l4.config.source import Documents
from l4.discovery.pipeline import Discovered
from waypoint.config.kinds import KINDS
from waypoint.config.pipeline import Compiled, Pipeline
from waypoint.config.settings import ConfigSettings
from waypoint.config.snapshot import Snapshot

GATEWAY = ("default", "waypoint")
_SETTINGS = Settings(ConfigSettings(requires_reference_grants=True))


def documents_of(**files: str) -> list[Document]:
    """Return the documents of files given by name (without suffix). An object of a later file replaces that of an
    earlier one. An unreadable file fails the test."""
    documents: dict[ObjectKey, Document] = {}
    for name, text in files.items():
        read, problems = manifest.parse(f"{name}.yaml", text.encode())
        assert problems == []
        documents |= {document.key: document for document in read}
    return list(documents.values())


def followed(
    documents: Iterable[Document],
    problems: Iterable[Problem] = (),
    gateway: tuple[str, str] = GATEWAY,
    *,
    kinds: Kinds = KINDS,
    join: Callable[[Discovered], Discovered] = lambda known: known,
) -> Compiled:
    """Return the result of a waypoint's pipeline for the documents, with ReferenceGrants required."""
    ordered = sorted(documents, key=lambda it: it.key)
    return Pipeline(gateway, _SETTINGS, kinds=kinds, join=join).compile(Documents(tuple(ordered), tuple(problems)))


def compiled(
    documents: Iterable[Document], problems: Iterable[Problem] = (), gateway: tuple[str, str] = GATEWAY
) -> Snapshot:
    return followed(documents, problems, gateway).snapshot
