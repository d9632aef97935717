"""Documents from files and folders, followed as they change.

Of several paths, a later one's object replaces an earlier one's with the same key, so that a few files can be laid over
others. Within one path the same object twice is a problem, and the first stays. Changes are noticed by looking at the
files every quarter of a second, which also survives editors that rename and ConfigMaps that swap links; only changed
files are read again, in a thread. What can't be read or parsed keeps its last good documents.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from l4.config import collector, manifest
from l4.config.documents import Document, ObjectKey, Origin, Problem

T = TypeVar("T")

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_POLL_SECONDS = 0.25
_SETTLE_POLLS = 10

Version = tuple[int, ...]
"""Differs whenever a file's content may differ."""


@dataclass(frozen=True, slots=True)
class Documents:
    """All documents, sorted by key, and the problems of reading them."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    version: Version
    documents: list[Document]
    problems: list[Problem]


class FolderSource:
    """Reads `paths`, each a file or a folder with everything below it; hidden files and folders are left out."""

    def __init__(self, paths: Iterable[Path], poll_seconds: float = _POLL_SECONDS) -> None:
        self._paths = [Path(path) for path in paths]
        self._poll_seconds = poll_seconds
        self._files: dict[Path, _File] = {}
        self._layers: list[list[Path]] = [[] for _ in self._paths]
        self._is_applied = True

    def load(self) -> Documents:
        """Read what is new or changed, and give everything."""
        self._refresh()
        return self._merge()

    async def watch(self, prepare: Callable[[Documents], T], apply: Callable[[T], None]) -> None:
        """After each change, once it has settled for a poll: `prepare` in a thread, then `apply` with what it made on
        the loop. Runs until cancelled; when one of them raises, the next call begins with what they did not take."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            if not await asyncio.to_thread(self._refresh) and self._is_applied:
                continue
            self._is_applied = False
            for _ in range(_SETTLE_POLLS):  # somebody may still be writing
                await asyncio.sleep(self._poll_seconds / 5)
                if not await asyncio.to_thread(self._refresh):
                    break
            with collector.paused():
                apply(await asyncio.to_thread(lambda: prepare(self._merge())))
            self._is_applied = True

    def _refresh(self) -> bool:
        """Read changed files; whether anything changed."""
        layers = [_files_of(path, before) for path, before in zip(self._paths, self._layers, strict=True)]
        changed = layers != self._layers
        self._layers = layers
        wanted = {path for layer in layers for path in layer}
        for path in self._files.keys() - wanted:
            del self._files[path]
        for path in wanted:
            known, version = self._files.get(path), _version(path)
            if known is None or known.version != version:
                with collector.paused():
                    file = _parse(path, version, known.documents if known is not None else [])
                self._files[path] = file
                if known is not None and known.documents is not file.documents:
                    _free(known.documents)
                changed = True
        return changed

    def _merge(self) -> Documents:
        merged: dict[ObjectKey, Document] = {}
        problems: list[Problem] = []
        for layer in self._layers:
            own: dict[ObjectKey, Document] = {}
            for path in layer:
                file = self._files[path]
                problems.extend(file.problems)
                for document in file.documents:
                    first = own.setdefault(document.key, document)
                    if first is not document:
                        sentence = f"is already defined at {first.origin}, which stays; remove one of the two"
                        problems.append(Problem(document.origin, str(document.key), "", sentence))
            merged.update(own)
        ordered = sorted(merged.values(), key=lambda document: document.key)
        return Documents(tuple(ordered), tuple(sorted(problems)))


def _free(documents: list[Document]) -> None:
    """One by one: freed at once, thousands of documents would keep every other thread waiting."""
    while documents:
        documents.pop()


def _files_of(path: Path, before: list[Path]) -> list[Path]:
    """The files of a path. While it can't be found, those of before: a volume that is swapped loses nothing."""
    if os.path.isdir(path):
        return list(_files_below(path, ()))
    return [path] if os.path.isfile(path) or not before else before


def _files_below(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        return  # a link that leads back up
    try:
        children = sorted(folder.iterdir())
    except OSError:
        yield folder  # becomes a problem when it is read
        return
    for child in children:
        if child.name.startswith("."):
            continue
        if os.path.isdir(child):
            yield from _files_below(child, (*above, real))
        elif child.suffix in _SUFFIXES:
            yield child


def _version(path: Path) -> Version:
    try:
        stat = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)


def _parse(path: Path, version: Version, last_good: list[Document]) -> _File:
    try:
        documents, problems = manifest.parse(str(path), _read(path))
    except ValueError as error:
        sentence, line = error.args
        if last_good:
            sentence += "; the file's last valid content stays live"
        return _File(version, last_good, [Problem(Origin(str(path), line), str(path), "", sentence)])
    return _File(version, documents, problems)


def _read(path: Path) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):  # opening a named pipe would wait for its writer
        raise ValueError("cannot be read: it is no file, or a folder that may not be listed", 0)
    try:
        with open(path, "rb") as file:
            return file.read(manifest.MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}", 0) from None
