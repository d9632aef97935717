"""Which documents differ between two states of a source."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import is_not

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
    if len(before) == len(now):
        pairs = list(compress(zip(before, now, strict=True), map(is_not, before, now)))
        if all(old.key == new.key for old, new in pairs):
            return Difference(tuple((old, new) for old, new in pairs if old != new))
    before, now = _apart(before, now)
    kept, known = set(map(id, now)), set(map(id, before))
    lost = {document.key: document for document in before if id(document) not in kept}
    fresh = ((lost.pop(it.key, None), it) for it in now if id(it) not in known)
    changed = tuple((old, new) for old, new in fresh if old != new)
    return Difference(changed, tuple(lost))


def _apart(before: Sequence[Document], now: Sequence[Document]) -> tuple[Sequence[Document], Sequence[Document]]:
    """Both without what they have in common at their beginnings and ends, which is most where they are sorted."""
    shorter = min(len(before), len(now))
    begin = next(compress(count(), map(is_not, before, now)), shorter)
    end = next(compress(count(), map(is_not, reversed(before), reversed(now))), shorter)
    end = min(end, shorter - begin)
    return before[begin : len(before) - end], now[begin : len(now) - end]
