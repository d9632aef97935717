"""The documents of many files → one list in which each object occurs once."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from l4.config.difference import difference
from l4.config.documents import Document, ObjectKey, Problem
from l4.config.file_content import FileContent

Layers = Sequence[Sequence[Path]]


@dataclass(frozen=True, slots=True)
class Merged:
    """All documents, sorted by key, what changed since the last merge, and the problems of merging."""

    documents: Sequence[Document]
    changed: tuple[Document, ...]
    gone: tuple[ObjectKey, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Places:
    """Which documents each file holds, and the owner and position of each document, for files that are rewritten."""

    layers: Layers
    keys: Mapping[Path, list[ObjectKey]]
    places: Mapping[ObjectKey, int]
    owners: Mapping[ObjectKey, Path]


class Merging:
    """Merges layers of files. An object of a later layer replaces the object with the same key of an earlier layer.

    Within one layer, a repeated object is a problem and the first one stays. An object of a file that is about to go
    yields to any other.
    """

    def __init__(self) -> None:
        self._documents: list[Document] = []
        self._places: _Places | None = None

    def merge(
        self,
        layers: Layers,
        files: Mapping[Path, FileContent],
        leaving: AbstractSet[Path],
        rewritten: Collection[Path],
    ) -> Merged:
        """Merge. `leaving` are the gone files that still count, `rewritten` the files whose documents changed."""
        replaced = self._replace(layers, files, leaving, rewritten)
        return replaced if replaced is not None else self._merge_all(layers, files, leaving)

    def _replace(
        self,
        layers: Layers,
        files: Mapping[Path, FileContent],
        leaving: AbstractSet[Path],
        rewritten: Collection[Path],
    ) -> Merged | None:
        """Merge if files hold new documents with the same names; None if more has changed."""
        known = self._places
        if known is None or leaving or known.layers != layers:
            return None
        if any(known.keys[path] != _keys(files[path]) for path in rewritten):
            return None
        changed: list[Document] = []
        for path in rewritten:
            for document in files[path].documents:
                place = known.places[document.key]
                before = self._documents[place]
                if known.owners[document.key] == path and before is not document and before != document:
                    self._documents[place] = document
                    changed.append(document)
        return Merged(self._documents, tuple(changed))

    def _merge_all(self, layers: Layers, files: Mapping[Path, FileContent], leaving: AbstractSet[Path]) -> Merged:
        merged: dict[ObjectKey, Document] = {}
        owners: dict[ObjectKey, Path] = {}
        problems: list[Problem] = []
        is_simple = not leaving
        for layer in layers:
            own: dict[ObjectKey, Document] = {}
            for path in sorted(layer, key=leaving.__contains__):
                for document in files[path].documents:
                    first = own.setdefault(document.key, document)
                    if first is document:
                        owners[document.key] = path
                        continue
                    is_simple = False
                    if path not in leaving:
                        sentence = f"is already defined at {first.origin}, which stays; remove one of the two"
                        problems.append(Problem(document.origin, str(document.key), "", sentence))
            merged.update(own)
        before, self._documents = self._documents, sorted(merged.values(), key=lambda document: document.key)
        self._places = None
        if is_simple:
            keys = {path: _keys(file) for path, file in files.items()}
            places = {document.key: place for place, document in enumerate(self._documents)}
            self._places = _Places(layers, keys, places, owners)
        found = difference(before, self._documents)
        return Merged(self._documents, tuple(new for _, new in found.changed), found.gone, tuple(problems))


def _keys(file: FileContent) -> list[ObjectKey]:
    return [document.key for document in file.documents]
