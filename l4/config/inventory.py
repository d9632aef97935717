"""All current documents of a source."""

from bisect import bisect_left

from l4.config.difference import Difference, difference
from l4.config.documents import Document, ObjectKey
from l4.config.source import Answer, Changes, Documents


class Inventory:
    """Follows the answers of a source, at the cost of what they change."""

    def __init__(self) -> None:
        self._documents: list[Document] = []
        self._keys: list[ObjectKey] = []  # made when the first change comes
        self._given: tuple[Document, ...] | None = ()

    @property
    def documents(self) -> tuple[Document, ...]:
        """All documents, sorted by key."""
        if self._given is None:
            self._given = tuple(self._documents)
        return self._given

    def take(self, answer: Answer) -> Difference:
        """Apply an answer and return what it changes. An object equal to the previous one is not a change."""
        match answer:
            case Documents(documents):
                found = difference(self._documents, documents)
                self._documents, self._keys, self._given = list(documents), [], documents
            case Changes():
                found = self._follow(answer)
        return found

    def _follow(self, changes: Changes) -> Difference:
        if not self._keys:
            self._keys = [document.key for document in self._documents]
        changed: list[tuple[Document | None, Document]] = []
        for document in changes.changed:
            place = self._place(document.key)
            before = self._documents[place] if self._has(document.key, place) else None
            if before is None:
                self._keys.insert(place, document.key)
                self._documents.insert(place, document)
            elif before == document:
                continue
            else:
                self._documents[place] = document
            changed.append((before, document))
        gone: list[ObjectKey] = []
        for key in changes.gone:
            place = self._place(key)
            if self._has(key, place):
                del self._keys[place], self._documents[place]
                gone.append(key)
        if changed or gone:
            self._given = None
        return Difference(tuple(changed), tuple(gone))

    def _place(self, key: ObjectKey) -> int:
        return bisect_left(self._keys, key)

    def _has(self, key: ObjectKey, place: int) -> bool:
        return place < len(self._keys) and self._keys[place] == key
