"""What a source has said so far: all its documents, and which of them changed since a given answer.

Each answer has a number. Of a document only the latest state is kept, so the journal grows with the documents, not with
their changes. It remembers only so many removed keys; whoever has missed one that is forgotten needs everything.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile

from l4.config.documents import Document, ObjectKey, Problem
from l4.config.doubts import Doubt
from l4.config.source import Answer, Changes, Documents

MAX_GONE = 10_000


@dataclass(frozen=True, slots=True)
class News:
    """What changed since an answer, or `is_everything`. `documents` are in no order; `problems` and `doubts` are
    complete."""

    is_everything: bool
    documents: Collection[Document]
    gone: tuple[ObjectKey, ...]
    problems: tuple[Problem, ...]
    doubts: tuple[Doubt, ...]


class Journal:
    def __init__(self, max_gone: int = MAX_GONE) -> None:
        self.number = 0
        """The number of the latest answer; 0 before the first one."""
        self._max_gone = max_gone
        self._documents: dict[ObjectKey, tuple[int, Document]] = {}
        """With the number of the answer that had it, in this order."""
        self._gone: OrderedDict[ObjectKey, int] = OrderedDict()
        self._oldest = 1
        """The changes since this answer are known, but not those since an older one."""
        self._problems: tuple[Problem, ...] = ()
        self._doubts: tuple[Doubt, ...] = ()

    def take(self, answer: Answer) -> None:
        """Take the next answer of the source. The first one must be Documents."""
        self.number += 1
        match answer:
            case Documents(documents):
                self._documents = {it.key: (self.number, it) for it in documents}
                self._gone.clear()
                self._oldest = self.number
            case Changes(changed, gone):
                self._follow(changed, gone)
        self._problems, self._doubts = answer.problems, answer.doubts

    def since(self, number: int) -> News:
        """Return what changed after the answer of this number, or everything if that is not known."""
        if not self._oldest <= number <= self.number:
            everything = [it for _, it in self._documents.values()]
            return News(True, everything, (), self._problems, self._doubts)
        changed = takewhile(lambda it: it[0] > number, reversed(self._documents.values()))
        gone = takewhile(lambda it: it[1] > number, reversed(self._gone.items()))
        return News(False, [it for _, it in changed], tuple(key for key, _ in gone), self._problems, self._doubts)

    def _follow(self, changed: Collection[Document], gone: Collection[ObjectKey]) -> None:
        for document in changed:
            self._gone.pop(document.key, None)
            self._documents.pop(document.key, None)  # so that it comes last
            self._documents[document.key] = self.number, document
        for key in gone:
            if self._documents.pop(key, None) is not None:
                self._gone[key] = self.number
        while len(self._gone) > self._max_gone:
            _, self._oldest = self._gone.popitem(last=False)
