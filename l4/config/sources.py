"""Documents from files and folders, followed as they change.

Of several paths, a later one's object replaces an earlier one's with the same key, so that a few files can be laid over
others. Within one path the same object twice is a problem, and the first stays. Changes are noticed by looking at the
files every quarter of a second, which also survives editors that rename and ConfigMaps that swap links; only changed
files are read again, in a thread. A file that can't be read as YAML keeps its last good documents.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from l4.config import manifest
from l4.config.documents import Document, ObjectKey, Origin, Problem

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_POLL_SECONDS = 0.25
_SETTLE_POLLS = 10

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Documents:
    """All documents, sorted by key, and the problems of reading them."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class _File:
    version: Version
    documents: list[Document]
    problems: list[Problem]


class FolderSource:
    """Reads `paths`, each a file or a folder with everything below it."""

    def __init__(self, paths: Iterable[Path], poll_seconds: float = _POLL_SECONDS) -> None:
        self._paths = [Path(path) for path in paths]
        self._poll_seconds = poll_seconds
        self._files: dict[Path, _File] = {}
        self._layers: list[list[Path]] = []

    def load(self) -> Documents:
        """Read what is new or changed, and give everything."""
        self._refresh()
        return self._merge()

    async def watch(self, on_change: Callable[[Documents], None]) -> None:
        """Call `on_change` after each change, once it has settled for a poll. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            if not await asyncio.to_thread(self._refresh):
                continue
            for _ in range(_SETTLE_POLLS):  # somebody may still be writing
                await asyncio.sleep(self._poll_seconds / 5)
                if not await asyncio.to_thread(self._refresh):
                    break
            on_change(self._merge())

    def _refresh(self) -> bool:
        """Read changed files; whether anything changed."""
        layers = [list(_files_below(path)) for path in self._paths]
        changed = layers != self._layers
        self._layers = layers
        wanted = {path for layer in layers for path in layer}
        for path in self._files.keys() - wanted:
            del self._files[path]
        for path in wanted:
            changed = self._refresh_file(path) or changed
        return changed

    def _refresh_file(self, path: Path) -> bool:
        known = self._files.get(path)
        try:
            stat = path.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if known is not None and known.version == version:
                return False
            text = path.read_bytes()
        except OSError as error:
            if known is None or known.version == (0, 0, 0):
                version, text, known = (0, 0, 0), b"", known or _File((1, 0, 0), [], [])
            was = known.version
            known.version = (0, 0, 0)
            known.problems = [Problem(Origin(str(path)), str(path), "", f"cannot be read: {error.strerror}")]
            self._files[path] = known
            return was != (0, 0, 0)
        self._files[path] = self._parse(path, version, text, known)
        return True

    @staticmethod
    def _parse(path: Path, version: Version, text: bytes, known: _File | None) -> _File:
        try:
            documents, problems = manifest.parse(str(path), text)
        except ValueError as error:
            sentence, line = error.args
            if known is not None and known.documents:
                sentence += "; the file's last valid content stays live"
            problem = Problem(Origin(str(path), line), str(path), "", sentence)
            return _File(version, known.documents if known is not None else [], [problem])
        return _File(version, documents, problems)

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


def _files_below(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for child in sorted(path.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_dir():
            yield from _files_below(child)
        elif child.suffix in _SUFFIXES:
            yield child
