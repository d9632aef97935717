"""Documents from files and folders, followed as they change.

Given several paths, an object of a later path replaces the object with the same key of an earlier path, so that a few
files can overlay others. Within one path, a repeated object is a problem, and the first one stays. Changes are found by
inotify and by looking at the files (see `alerts`). This handles editors that rename files and ConfigMaps that swap
links. Only changed files are read again, in a thread.

A path that cannot be listed or read keeps its previous documents and is a doubt (see `doubts`). A removed file with
policies stays in force for a moment, because it may be about to be replaced; see also `file_content`.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from l4.config import collector, file_content
from l4.config.alerts import ANYTHING, Alerts
from l4.config.documents import Document, FileOrigin, Problem
from l4.config.doubts import EVERYWHERE, Doubt
from l4.config.file_content import LOST_SECONDS, FileContent, held
from l4.config.forms import Forms
from l4.config.merging import Merged, Merging
from l4.config.notices import Told
from l4.config.rereading import Reader
from l4.config.source import Answer, Changes, Documents, Take
from l4.config.status import Kind, Version, kind_of, look

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_POLL_SECONDS = 0.25
_SETTLE_POLLS = 10
_ENDPOINTS_SETTLE = 2.5
"""Factor by which endpoints settle longer, so that many simultaneous changes become one."""
_ENDPOINTS = frozenset({"Pod", "EndpointSlice", "Endpoints"})

_Children = tuple[list[str], list[tuple[Path, bool]]]
"""The names in a folder, and its visible paths, each with whether it has a manifest's suffix."""


class FolderSource:
    """Reads `paths`, each a file or a folder with everything below it except hidden files and folders."""

    def __init__(
        self,
        paths: Iterable[Path],
        poll_seconds: float = _POLL_SECONDS,
        settle_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = [Path(path) for path in paths]
        self._poll_seconds = poll_seconds
        self._settle_seconds = poll_seconds / 5 if settle_seconds is None else settle_seconds
        self._clock = clock
        self._files: dict[Path, FileContent] = {}
        self._readers: dict[Path, Reader] = {}
        self._forms = Forms()
        self._layers: list[list[Path]] = [[] for _ in self._paths]
        self._leaving: dict[Path, float] = {}
        self._listed: set[Path] = set()
        self._children: dict[Path, _Children] = {}
        self._known_children: dict[Path, _Children] = {}
        self._merging = Merging()
        self._rewritten: set[Path] = set()
        self._looked_new: set[Path] = set()
        self._surprises: set[Path] = set()
        self._unsettled: set[Path] = set()
        self._troubled: set[Path] = set()
        self._is_endpoints_only = True
        self._versions: dict[Path, Version] = {}
        self._unlisted: dict[Path, str] = {}
        self._is_taken = False
        self._alerts: Alerts | None = None

    @property
    def lack(self) -> str:
        return f"there are no objects in {', '.join(map(str, self._paths))}; see --resources"

    @property
    def silent_seconds(self) -> float:
        return 0.0

    @property
    def is_told(self) -> bool:
        """Whether inotify reports all changes, so that full looks are rare."""
        return self._alerts is not None and self._alerts.is_enough

    def read(self) -> Documents:
        """Read new and changed files, and return all documents."""
        self._refresh()
        self._is_endpoints_only, self._is_taken = True, False
        documents = self._everything()
        self._is_taken = True
        return documents

    async def load(self) -> Documents:
        return self.read()

    async def close(self) -> None:
        """Nothing is held between calls of `watch`."""

    async def watch(self, take: Take) -> None:
        """See `Source`. A change is passed on once it has settled for a moment."""
        self._alerts = alerts = Alerts(self._poll_seconds)
        try:
            while True:
                told = await alerts.next(is_pressing=self._is_pressing) if self._is_taken else ANYTHING
                if not await self._look(told, alerts) and self._is_taken:
                    await asyncio.sleep(self._settle_seconds / 5)  # others may write beside our files all the time
                    continue
                await self._settle(alerts)
                answer: Callable[[], Answer] = self._changes if self._is_taken else self._everything
                self._is_taken = False
                await take(await asyncio.to_thread(answer))
                self._is_taken = True
        finally:
            self._alerts = None
            alerts.close()

    async def _settle(self, alerts: Alerts) -> None:
        """Wait until the files have stopped changing.

        Endpoints change all the time, one file after another. Waiting for all of them would delay each of them, so that
        of endpoints only the files that have already changed count.
        """
        for _ in range(_SETTLE_POLLS):
            was_endpoints_only = self._is_endpoints_only
            await asyncio.sleep(self._settle_seconds * (_ENDPOINTS_SETTLE if was_endpoints_only else 1))
            if was_endpoints_only:
                told = alerts.take()
                is_changed = await asyncio.to_thread(self._look_again, told)
                if is_changed is None:
                    alerts.put_back(told)
            else:
                is_changed = await self._look(ANYTHING, alerts)
            if not is_changed and self._is_endpoints_only == was_endpoints_only:
                break
        self._is_endpoints_only = True

    # -- looking -------------------------------------------------------------------------------------------------------

    @property
    def _is_pressing(self) -> bool:
        """Whether something must be looked at again even if it does not change."""
        return bool(self._unsettled or self._leaving or self._unlisted)

    async def _look(self, told: Told, alerts: Alerts) -> bool:
        """Look at the reported files, or else everywhere. Returns whether anything changed."""
        if told.is_all and (is_new := await asyncio.to_thread(self._look_where_told, told)) is not None:
            return is_new
        self._surprises.clear()
        is_changed = await asyncio.to_thread(self._refresh)
        if alerts.looked(self._folders(), () if told.paths else [str(it) for it in self._surprises]):
            is_changed |= await asyncio.to_thread(self._refresh)
            alerts.looked(self._folders(), ())
        return is_changed

    def _folders(self) -> set[str]:
        """Return the folders that contain manifests, or may contain some."""
        return {str(it) for it in (*self._children, *(it.parent for it in self._paths if it not in self._children))}

    def _files_in(self, told: Told) -> list[Path] | None:
        """Return the reported files; None if another reported change may matter."""
        if not told.is_all:
            return None
        self._versions.clear()
        files = []
        for path in map(Path, told.paths):
            kind, self._versions[path] = look(path)
            if path in self._files and path not in self._leaving and kind is Kind.FILE:
                files.append(path)
            elif self._may_matter(path):
                return None
        return files

    def _may_matter(self, path: Path) -> bool:
        """Whether a change at `path`, which is not a manifest, may add, remove or replace manifests."""
        if path in self._files or path in self._paths or path in self._children:
            return True
        if path.parent not in self._children:
            return False  # it only stands beside a file that was named
        if path.name.startswith("."):  # ConfigMaps swap what their files show by a hidden link
            return kind_of(path) is not Kind.FILE or path.is_symlink()
        return path.suffix in _SUFFIXES or path in self._listed or kind_of(path) is Kind.FOLDER

    def _look_where_told(self, told: Told) -> bool | None:
        """Look at the reported files. None if a full look is needed."""
        files = self._files_in(told)
        if files is None:
            return None
        now = self._clock() if files else 0.0
        self._looked_new.clear()
        changed = [path for path in files if self._look_at(path, now)]
        return bool(changed)

    def _refresh(self) -> bool:
        """Look everywhere and read changed files. Returns whether anything changed."""
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
            self._unsettled.discard(path)
            self._troubled.discard(path)
        for path in wanted - leaving.keys():
            is_changed |= self._look_at(path, now)
        return is_changed

    def _look_again(self, told: Told) -> bool | None:
        """Look again at the files that changed at the last look, and return whether they changed since.

        `others` are files to look at too, whose changes do not count here.
        """
        now, files = self._clock(), self._files_in(told)
        self._versions = {path: self._versions[path] for path in files or ()}
        paths = list(self._looked_new)
        self._looked_new.clear()
        changed = [path for path in paths if self._look_at(path, now)]
        for path in files or ():
            self._look_at(path, now)
        return bool(changed) if files is not None else None

    def _files_of(self, path: Path, before: list[Path]) -> Iterator[Path]:
        """Yield the files of a path that was given to the source.

        While the path does not exist, these are the previous files, so that a volume being swapped loses nothing.
        """
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
                    yield from self._cannot_list(child, before, "it cannot be inspected")
                case Kind.GONE if not is_named_so and child.is_symlink():  # to a volume that is not there now
                    yield from self._cannot_list(child, before, "it is a link to nothing")
                case _ if is_named_so:
                    yield child

    def _below_named(self, folder: Path, names: list[str]) -> list[tuple[Path, bool]]:
        """Return the visible paths, each with whether it has a manifest's suffix. Cached, because folders are looked at
        four times a second and rarely change."""
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
        """Return whether the file's content changed."""
        known, version = self._files.get(path), self._versions.get(path) or look(path)[1]
        if known is not None and known.version == version:
            return False
        with collector.paused():
            reader = self._readers.setdefault(path, Reader(str(path), self._forms))
            found = file_content.read(path, version, known or FileContent(None), now, reader)
        self._files[path] = found
        self._looked_new.add(path)
        if known is None or known.version is not None:
            self._surprises.add(path)
        _put(self._unsettled, path, found.version is None)
        _put(self._troubled, path, bool(found.problems or found.doubts))
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

    # -- answering -----------------------------------------------------------------------------------------------------

    def _everything(self) -> Documents:
        merged, problems, doubts = self._merge()
        return Documents(tuple(merged.documents), problems, doubts)

    def _changes(self) -> Changes:
        merged, problems, doubts = self._merge()
        return Changes(merged.changed, merged.gone, problems, doubts)

    def _merge(self) -> tuple[Merged, tuple[Problem, ...], tuple[Doubt, ...]]:
        with collector.paused():
            merged = self._merging.merge(self._layers, self._files, self._leaving.keys(), self._rewritten)
        self._rewritten.clear()
        problems = list(merged.problems)
        doubts = [self._unlistable(folder, reason) for folder, reason in sorted(self._unlisted.items())]
        for path in self._troubled:
            problems.extend(self._files[path].problems)
            doubts.extend(self._files[path].doubts)
        sentence = "is gone; its objects stay live for a moment, because it may be replaced"
        doubts.extend(held(path, sentence) for path in self._leaving)
        problems.extend(doubt.problem for doubt in doubts)
        return merged, tuple(sorted(set(problems))), tuple(sorted(doubts))

    def _unlistable(self, folder: Path, reason: str) -> Doubt:
        is_known = folder in self._listed
        sentence = f"cannot be listed: {reason}" + ("; its last objects stay live" if is_known else "")
        return Doubt(Problem(FileOrigin(str(folder)), str(folder), "", sentence), is_known, EVERYWHERE)


def _put(paths: set[Path], path: Path, is_in: bool) -> None:
    if is_in:
        paths.add(path)
    else:
        paths.discard(path)


def _differing(one: FileContent, other: FileContent) -> Iterator[Document]:
    """Yield the documents that are in only one of the two."""
    common = set(map(id, one.documents)) & set(map(id, other.documents))
    yield from (it for it in (*one.documents, *other.documents) if id(it) not in common)


def _free(documents: list[Document]) -> None:
    """Free documents one by one. Freeing thousands at once would block every other thread."""
    while documents:
        documents.pop()
