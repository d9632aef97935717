"""What a source has said so far: all its documents, and which of them changed since a given step.

Each document that is added or changed and each key that is removed is a step, and steps are numbered. Of a document
only the latest state is kept, so the journal grows with the documents, not with their changes. It remembers only so
many removed keys; whoever has missed one that is forgotten needs everything. What is new is read in parts, whose bytes
are bounded: several readers that begin at once would otherwise need as many copies of everything.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import takewhile

from l4.config.documents import Document, ObjectKey, Problem
from l4.config.doubts import Doubt
from l4.config.encoded import Encoded
from l4.config.source import Answer, Changes, Documents

MAX_GONE = 10_000
PART_BYTES = 1 << 20
"""A part has at least one document, however large."""


@dataclass(frozen=True, slots=True)
class News:
    """A part of what changed after a step, up to step `number`; or, if `is_everything`, the first part of all there is.

    `begun` is the latest step at the time of the first part: what was removed until then is not told. `documents` are
    in no order. The last part has the problems and the doubts, which are complete.
    """

    number: int
    begun: int
    is_last: bool
    is_everything: bool
    documents: Collection[Document]
    gone: tuple[ObjectKey, ...]
    problems: tuple[Problem, ...]
    doubts: tuple[Doubt, ...]


def encoded_bytes(document: Document) -> int:
    """Return the size of a document whose content is Encoded."""
    assert isinstance(document.content, Encoded)
    return len(document.content.json)


class Journal:
    """`size` returns the bytes of a document."""

    def __init__(
        self,
        max_gone: int = MAX_GONE,
        part_bytes: int = PART_BYTES,
        size: Callable[[Document], int] = encoded_bytes,
    ) -> None:
        self.number = 0
        """The number of the latest step; 0 before the first one."""
        self._max_gone = max_gone
        self._part_bytes = part_bytes
        self._size = size
        self._documents: dict[ObjectKey, tuple[int, Document]] = {}
        """With the numbers of the steps, in this order."""
        self._gone: OrderedDict[ObjectKey, int] = OrderedDict()
        self._oldest = 1
        """What came after this step is known, but not what came after an older one."""
        self._problems: tuple[Problem, ...] = ()
        self._doubts: tuple[Doubt, ...] = ()

    def take(self, answer: Answer) -> None:
        """Take the next answer of the source. The first one must be Documents."""
        self.number += 1
        match answer:
            case Documents(documents):
                self._documents.clear()
                self._gone.clear()
                self._oldest = self.number
                self._follow(documents, ())
            case Changes(changed, gone):
                self._follow(changed, gone)
        self._problems, self._doubts = answer.problems, answer.doubts

    def since(self, number: int, begun: int = 0) -> News:
        """Return the next part of what came after the step of this number. If that is not known, the part is the first
        one of everything. Whoever reads everything gives `begun` of the part before."""
        removed_after = max(number, begun)
        is_everything = not self._oldest <= removed_after <= self.number
        if is_everything:
            number, removed_after, begun = 0, self.number, self.number
        waiting = list(takewhile(lambda it: it[0] > number, reversed(self._documents.values())))
        until, size, documents = self.number, 0, []
        while waiting and size < self._part_bytes:
            until, document = waiting.pop()
            size += self._size(document)
            documents.append(document)
        if is_last := not waiting:
            until = self.number
        newer = takewhile(lambda it: it[1] > removed_after, reversed(self._gone.items()))
        gone = tuple(key for key, at in newer if at <= until)
        told = (self._problems, self._doubts) if is_last else ((), ())
        return News(until, begun, is_last, is_everything, documents, gone, *told)

    def _follow(self, changed: Collection[Document], gone: Collection[ObjectKey]) -> None:
        for document in changed:
            self.number += 1
            self._gone.pop(document.key, None)
            self._documents.pop(document.key, None)  # so that it comes last
            self._documents[document.key] = self.number, document
        for key in gone:
            if self._documents.pop(key, None) is not None:
                self.number += 1
                self._gone[key] = self.number
        while len(self._gone) > self._max_gone:
            _, self._oldest = self._gone.popitem(last=False)
