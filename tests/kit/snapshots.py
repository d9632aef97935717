"""Manifests → a snapshot, by all the steps of production but for reading files."""

from collections.abc import Iterable

from l4.config import manifest
from l4.config.documents import Document, ObjectKey, Problem
from l4.config.resources import Decoder
from l4.discovery.kubernetes import Mesh, registry_of
from waypoint.config.compile import compile
from waypoint.config.kinds import KINDS
from waypoint.config.snapshot import Snapshot

GATEWAY = ("default", "waypoint")


def documents_of(**files: str) -> list[Document]:
    """The documents of files given by name (without suffix), an object of a later one in place of an earlier one's; a
    file that can't be read fails the test."""
    documents: dict[ObjectKey, Document] = {}
    for name, text in files.items():
        read, problems = manifest.parse(f"{name}.yaml", text.encode())
        assert problems == []
        documents |= {document.key: document for document in read}
    return list(documents.values())


def compiled(
    documents: Iterable[Document], problems: Iterable[Problem] = (), gateway: tuple[str, str] = GATEWAY
) -> Snapshot:
    """What the waypoint makes of the documents, where ReferenceGrants are asked for."""
    decoded = Decoder(KINDS).decode(documents)
    registry = registry_of(decoded.resources, Mesh())
    return compile(
        decoded.resources,
        registry,
        gateway=gateway,
        problems=(*problems, *decoded.problems),
        requires_reference_grants=True,
    )
