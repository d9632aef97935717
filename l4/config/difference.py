"""The difference between two states of a source's documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import is_not

from l4.config.documents import Document, ObjectKey


@dataclass(frozen=True, slots=True)
class Difference:
    """`changed` holds (old or None, new) for each document that differs, `gone` the keys of removed documents."""

    changed: tuple[tuple[Document | None, Document], ...] = ()
    gone: tuple[ObjectKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


def difference(before: Sequence[Document], now: Sequence[Document]) -> Difference:
    """Return how `now` differs from `before`. Each key occurs once in each sequence.

    A document that is the identical object costs almost nothing to compare, whatever its size. A source should
    therefore return the same objects for what has not changed.
    """
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
    """Return both sequences without their common beginning and end, which is most of them where they are sorted."""
    shorter = min(len(before), len(now))
    begin = next(compress(count(), map(is_not, before, now)), shorter)
    end = next(compress(count(), map(is_not, reversed(before), reversed(now))), shorter)
    end = min(end, shorter - begin)
    return before[begin : len(before) - end], now[begin : len(now) - end]
