"""Which documents differ between two states of a source."""

from collections.abc import Sequence
from dataclasses import dataclass

from l4.config.documents import Document, ObjectKey


@dataclass(frozen=True, slots=True)
class Difference:
    """`changed` are the new documents of those that differ, with the old one where there was one."""

    changed: tuple[tuple[Document | None, Document], ...] = ()
    gone: tuple[ObjectKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


def difference(before: Sequence[Document], now: Sequence[Document]) -> Difference:
    """Of sequences in which each key stands once. A document that is the same object costs next to nothing, whatever
    it holds, so that a source does well to give again what has not changed."""
    if before is now:
        return Difference()
    kept, known = set(map(id, now)), set(map(id, before))
    lost = {document.key: document for document in before if id(document) not in kept}
    fresh = [document for document in now if id(document) not in known]
    pairs = [(lost.pop(document.key, None), document) for document in fresh]
    return Difference(tuple((old, new) for old, new in pairs if old != new), tuple(lost))
