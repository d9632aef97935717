"""Documents from files and folders, followed as they change.

Of several paths, a later one's object replaces an earlier one's with the same key, so that a few files can be laid over
others. Within one path the same object twice is a problem, and the first stays. Changes are noticed by looking at the
files every quarter of a second, which also survives editors that rename and ConfigMaps that swap links; only changed
files are read again, in a thread.

What can't be listed, read or parsed keeps what it held before, and is a doubt (see `doubts`). So is an emptied file,
until it has content again or is removed: many a writer truncates first. A file in which a policy is changed, lost or
removed must be left alone for a while before that counts, because it may be half written.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from l4.config import collector, manifest
from l4.config.codes import DocumentCode
from l4.config.documents import Document, FileOrigin, ObjectKey, Problem
from l4.config.doubts import EVERYWHERE, Doubt
from l4.config.forms import Forms
from l4.config.known_kinds import is_policy, may_be_policy
from l4.config.rereading import Reader
from l4.config.status import Kind, Version, kind_of, look

T = TypeVar("T")

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_POLL_SECONDS = 0.25
_SETTLE_POLLS = 10
_ENDPOINTS = frozenset({"Pod", "EndpointSlice", "Endpoints"})
CHANGED_SECONDS = 1.0
LOST_SECONDS = 2.0
"""How long a file must be left alone in which a policy has changed, or in which less is than was."""
_KEPT = "the file's last valid content stays live"


@dataclass(frozen=True, slots=True)
class Documents:
    """All documents, sorted by key, the problems of reading them, and what could not be read."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(slots=True)
class _File:
    """`version` is None while the file must be looked at again, changed or not. `waits` is since when it has been left
    alone with content that doesn't count yet."""

    version: Version | None
    size: int = 0
    documents: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    waits: tuple[Version, float] | None = None

    @property
    def has_policies(self) -> bool:
        return any(is_policy(it.key.group, it.key.kind) for it in self.documents)

    def says_the_same(self, other: "_File") -> bool:
        return (self.documents, self.problems, self.doubts) == (other.documents, other.problems, other.doubts)


_Children = tuple[list[str], list[tuple[Path, bool]]]
"""The names in a folder, and the paths that count, with whether they are named like files of ours."""


@dataclass(frozen=True, slots=True)
class _Merged:
    """What all files gave together, and which document is whose and where, for files that are rewritten."""

    layers: list[list[Path]]
    keys: dict[Path, list[ObjectKey]]
    ordered: list[Document]
    places: dict[ObjectKey, int]
    owners: dict[ObjectKey, Path]


class FolderSource:
    """Reads `paths`, each a file or a folder with everything below it; hidden files and folders are left out."""

    def __init__(
        self,
        paths: Iterable[Path],
        poll_seconds: float = _POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = [Path(path) for path in paths]
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._files: dict[Path, _File] = {}
        self._readers: dict[Path, Reader] = {}
        self._forms = Forms()
        self._layers: list[list[Path]] = [[] for _ in self._paths]
        self._leaving: dict[Path, float] = {}
        self._listed: set[Path] = set()
        self._children: dict[Path, _Children] = {}
        self._known_children: dict[Path, _Children] = {}
        self._merged: _Merged | None = None
        self._rewritten: set[Path] = set()
        self._looked_new: set[Path] = set()
        self._is_endpoints_only = True
        self._versions: dict[Path, Version] = {}
        self._unlisted: dict[Path, str] = {}
        self._is_applied = True

    def load(self) -> Documents:
        """Read what is new or changed, and give everything."""
        self._refresh()
        self._is_endpoints_only = True
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
                if not await asyncio.to_thread(self._look_again if self._is_endpoints_only else self._refresh):
                    break
            self._is_endpoints_only = True
            with collector.paused():
                apply(await asyncio.to_thread(lambda: prepare(self._merge())))
            self._is_applied = True

    # -- looking -------------------------------------------------------------------------------------------------------

    def _refresh(self) -> bool:
        """Look everywhere, and read changed files; whether anything changed."""
        now, before = self._clock(), (self._layers, self._unlisted, self._leaving.keys())
        self._unlisted, leaving = {}, {}
        self._versions.clear()
        self._known_children, self._children = self._children, {}
        layers = []
        for path, known in zip(self._paths, self._layers, strict=True):
            layer = list(self._files_of(path, known))
            for gone in set(known).difference(layer):
                since = self._leaving.get(gone, now)
                if gone in self._files and self._files[gone].has_policies and now - since < LOST_SECONDS:
                    leaving[gone] = since
                    layer.append(gone)
            layers.append(known if layer == known else sorted(layer, key=lambda it: it.parts))
        self._layers, self._leaving = layers, leaving
        is_changed = (self._layers, self._unlisted, self._leaving.keys()) != before
        self._is_endpoints_only &= not is_changed
        self._looked_new.clear()
        wanted = {path for layer in layers for path in layer}
        for path in self._files.keys() - wanted:
            del self._files[path]
            self._readers.pop(path, None)
        for path in wanted - leaving.keys():
            is_changed |= self._look_at(path, now)
        return is_changed

    def _look_again(self) -> bool:
        """The same for the files alone in which something was new the last time. Endpoints come and go all the time,
        one file after another, so that waiting until none does would keep each of them waiting."""
        now = self._clock()
        self._versions.clear()
        paths = list(self._looked_new)
        self._looked_new.clear()
        changed = [path for path in paths if self._look_at(path, now)]
        return bool(changed)

    def _files_of(self, path: Path, before: list[Path]) -> Iterator[Path]:
        """The files of a path that somebody named: while it can't be found, those of before, because a volume that is
        swapped loses nothing."""
        match kind_of(path):
            case Kind.FOLDER:
                yield from self._below(path, before, ())
            case Kind.GONE | Kind.UNKNOWN if before:
                yield from before
            case _:
                yield path  # if it can't be read, that becomes its problem

    def _below(self, folder: Path, before: list[Path], above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
        try:
            status = folder.stat()
            names = sorted(os.listdir(folder))
        except OSError as error:
            yield from self._cannot_list(folder, before, error.strerror or str(error))
            return
        self._listed.add(folder)
        place = status.st_dev, status.st_ino
        if place in above:
            return  # a link that leads back up
        for child, is_named_so in self._below_named(folder, names):
            kind, self._versions[child] = look(child)
            match kind:
                case Kind.FOLDER:
                    yield from self._below(child, before, (*above, place))
                case Kind.UNKNOWN if not is_named_so:
                    yield from self._cannot_list(child, before, "it can't be looked at")
                case Kind.GONE if not is_named_so:  # a link to a volume that is not there now
                    yield from (path for path in before if child in path.parents)
                case _ if is_named_so:
                    yield child

    def _below_named(self, folder: Path, names: list[str]) -> list[tuple[Path, bool]]:
        """What is not hidden, and whether it is named like a file of ours. It is looked at four times a second, and
        seldom differs."""
        known = self._known_children.get(folder)
        if known is not None and known[0] == names:
            self._children[folder] = known
            return known[1]
        children = [folder / name for name in names if not name.startswith(".")]
        found = [(child, child.suffix in _SUFFIXES) for child in children]
        self._children[folder] = names, found
        return found

    def _cannot_list(self, folder: Path, before: list[Path], reason: str) -> Iterator[Path]:
        self._unlisted[folder] = reason
        yield from (path for path in before if folder in path.parents)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _look_at(self, path: Path, now: float) -> bool:
        """Whether it says anything new."""
        known, version = self._files.get(path), self._versions.get(path) or look(path)[1]
        if known is not None and known.version == version:
            return False
        with collector.paused():
            reader = self._readers.setdefault(path, Reader(str(path), self._forms))
            found = _read(path, version, known or _File(None), now, reader)
        self._files[path] = found
        self._looked_new.add(path)
        if known is None:
            self._is_endpoints_only = False
            return True
        if known.says_the_same(found):
            found.documents = known.documents
            return False
        if known.documents is not found.documents:
            by_key = {it.key: it for it in known.documents}
            found.documents = [by_key[it.key] if by_key.get(it.key) == it else it for it in found.documents]
            self._rewritten.add(path)
            self._is_endpoints_only &= all(it.key.kind in _ENDPOINTS for it in _differing(known, found))
            _free(known.documents)
        self._is_endpoints_only &= (known.problems, known.doubts) == (found.problems, found.doubts)
        return True

    def _merge(self) -> Documents:
        ordered = self._merged_again()
        problems: list[Problem] = []
        if ordered is None:
            ordered = self._merge_all(problems)
        self._rewritten.clear()
        doubts = [self._unlistable(folder, reason) for folder, reason in sorted(self._unlisted.items())]
        for path in (path for layer in self._layers for path in layer):
            file = self._files[path]
            problems.extend(file.problems)
            doubts.extend(file.doubts)
            if path in self._leaving:
                doubts.append(_held(path, "is gone; what it held stays live for a moment, as it may be replaced"))
        problems.extend(doubt.problem for doubt in doubts)
        return Documents(tuple(ordered), tuple(sorted(set(problems))), tuple(sorted(doubts)))

    def _merge_all(self, problems: list[Problem]) -> list[Document]:
        merged: dict[ObjectKey, Document] = {}
        owners: dict[ObjectKey, Path] = {}
        is_simple = not self._leaving
        for layer in self._layers:
            own: dict[ObjectKey, Document] = {}
            for path in sorted(layer, key=self._leaving.__contains__):  # what is on its way out stands back
                for document in self._files[path].documents:
                    first = own.setdefault(document.key, document)
                    if first is document:
                        owners[document.key] = path
                        continue
                    is_simple = False
                    if path not in self._leaving:
                        sentence = f"is already defined at {first.origin}, which stays; remove one of the two"
                        problems.append(Problem(document.origin, str(document.key), "", sentence))
            merged.update(own)
        ordered = sorted(merged.values(), key=lambda document: document.key)
        self._merged = None
        if is_simple:
            keys = {path: _keys(file) for path, file in self._files.items()}
            places = {document.key: place for place, document in enumerate(ordered)}
            self._merged = _Merged(self._layers, keys, ordered, places, owners)
        return ordered

    def _merged_again(self) -> list[Document] | None:
        """What was merged before, with the documents of files that hold others by the same names; None where more is
        different than that."""
        merged, files = self._merged, self._files
        if merged is None or self._leaving or merged.layers != self._layers:
            return None
        if any(merged.keys[path] != _keys(files[path]) for path in self._rewritten):
            return None
        for path in self._rewritten:
            for document in files[path].documents:
                if merged.owners[document.key] == path:
                    merged.ordered[merged.places[document.key]] = document
        return merged.ordered

    def _unlistable(self, folder: Path, reason: str) -> Doubt:
        is_known = folder in self._listed
        sentence = f"cannot be listed: {reason}" + ("; what it held before stays live" if is_known else "")
        return Doubt(Problem(FileOrigin(str(folder)), str(folder), "", sentence), is_known, EVERYWHERE)


def _differing(one: _File, other: _File) -> Iterator[Document]:
    """The documents that are in one of them alone."""
    common = set(map(id, one.documents)) & set(map(id, other.documents))
    yield from (it for it in (*one.documents, *other.documents) if id(it) not in common)


def _keys(file: _File) -> list[ObjectKey]:
    return [document.key for document in file.documents]


def _free(documents: list[Document]) -> None:
    """One by one: freed at once, thousands of documents would keep every other thread waiting."""
    while documents:
        documents.pop()


def _read(path: Path, version: Version, known: _File, now: float, reader: Reader) -> _File:
    """What the file says by now, where `known` is what it said before."""
    if kind_of(path) in {Kind.OTHER, Kind.FOLDER}:  # opening a named pipe would wait for its writer
        sentence = "cannot be read: it is no file, or a folder that may not be listed"
        return _File(version, problems=[Problem(FileOrigin(str(path)), str(path), "", sentence)])
    try:
        with open(path, "rb") as file:
            text = file.read(manifest.MAX_FILE_BYTES + 1)
    except OSError as error:
        return _doubtful(path, None, known, f"cannot be read: {error.strerror or error}")
    if not text.strip():
        return _emptied(path, version, known)
    try:
        contents = reader.read(text)
    except ValueError as error:
        sentence, line = error.args
        return _doubtful(path, version, known, sentence, line)
    if contents.is_empty:
        contents.problems.append(_empty(path))
    return _settled(path, _kept(version, len(text), known, contents), known, now)


def _doubtful(path: Path, version: Version | None, known: _File, sentence: str, line: int = 0) -> _File:
    if known.documents:
        sentence = f"{sentence}; {_KEPT}"
    problem = Problem(FileOrigin(str(path), line), str(path), "", sentence)
    has_last_good = bool(known.documents) or known.size > 0
    return _File(version, known.size, known.documents, [], [Doubt(problem, has_last_good, EVERYWHERE)])


def _emptied(path: Path, version: Version, known: _File) -> _File:
    if known.documents:
        return replace(
            known,
            version=version,
            problems=[],
            doubts=[_held(path, f"is empty; {_KEPT} until it has other content; remove it to remove its objects")],
            waits=None,
        )
    problem = _empty(path)
    if known.version is None and _is_young(version):  # it may be about to be written
        return _File(None, doubts=[Doubt(problem, False, EVERYWHERE)])
    return _File(version, problems=[problem])


def _empty(path: Path) -> Problem:
    sentence = "holds no object; remove it, or write the objects that belong in it"
    return Problem(FileOrigin(str(path)), str(path), "", sentence, DocumentCode.FILE_EMPTY)


def _is_young(version: Version) -> bool:
    return len(version) > 1 and time.time() - version[0] / 1e9 < LOST_SECONDS


def _held(path: Path, sentence: str) -> Doubt:
    return Doubt(Problem(FileOrigin(str(path)), str(path), "", sentence, DocumentCode.CONTENT_HELD), True, EVERYWHERE)


def _kept(version: Version, size: int, known: _File, contents: manifest.Contents) -> _File:
    """The file with the last valid versions of what can't be read in it now."""
    documents, doubts = list(contents.documents), []
    told = {refusal.problem: refusal.problem for refusal in contents.refusals}
    for refusal in contents.refusals:
        keys = {document.key for document in documents}
        kept = [it for it in known.documents if it.key not in keys and refusal.may_be(it.key)]
        documents += kept
        problem = refusal.problem
        if kept:
            sentence = (
                f"{problem.sentence}; the last valid version of {', '.join(str(it.key) for it in kept)} stays live"
            )
            problem = told[refusal.problem] = replace(problem, sentence=sentence)
        if refusal.is_object and may_be_policy(refusal.api_version, refusal.kind):
            doubts.append(Doubt(problem, bool(kept), EVERYWHERE if refusal.namespace is None else refusal.namespace))
    return _File(version, size, documents, [told.get(it, it) for it in contents.problems], doubts)


def _settled(path: Path, found: _File, known: _File, now: float) -> _File:
    """What was found, or what is known for as long as a policy in it may be half written."""
    by_key = {document.key: document for document in found.documents}
    changed = [
        it.key
        for it in known.documents
        if is_policy(it.key.group, it.key.kind) and (it.key not in by_key or by_key[it.key].content != it.content)
    ]
    if not changed:
        return found
    is_less = found.size < known.size or any(key not in by_key for key in changed)
    version = found.version
    assert version is not None
    since = known.waits[1] if known.waits is not None and known.waits[0] == version else now
    seconds = LOST_SECONDS if is_less else CHANGED_SECONDS
    if now - since >= seconds:
        return found
    names = ", ".join(map(str, changed[:3])) + (" and others" if len(changed) > 3 else "")
    sentence = f"changes {names}, which stays as it was until the file is left alone for {seconds:g} s"
    return replace(known, version=None, problems=[], doubts=[_held(path, sentence)], waits=(version, since))
