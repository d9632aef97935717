"""The content of one manifest file, as far as it is readable and trusted so far.

A file that cannot be read or parsed keeps its previous content and is a doubt (see `doubts`). So does an emptied file,
until it has content again or is removed: many programs truncate a file before they write it. A file in which a policy
changed or disappeared takes effect only once it has not been written for a while, because it may be half written.
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from l4.config import manifest
from l4.config.codes import DocumentCode
from l4.config.documents import Document, FileOrigin, Problem
from l4.config.doubts import EVERYWHERE, Doubt
from l4.config.kinds import is_policy, may_be_policy
from l4.config.rereading import Reader
from l4.config.status import Kind, Version, kind_of

CHANGED_SECONDS = 1.0
LOST_SECONDS = 2.0
"""How long a file must stay unwritten after a policy in it changed (the first) or objects disappeared (the second)."""
_KEPT = "the file's last valid content stays live"


@dataclass(slots=True)
class FileContent:
    """The content of one file. `version` is None while the file must be read again even if it does not change. `waits`
    is the version that does not take effect yet, and the time since which the file has not been written."""

    version: Version | None
    size: int = 0
    documents: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    waits: tuple[Version, float] | None = None

    @property
    def has_policies(self) -> bool:
        return any(is_policy(it.key.group, it.key.kind) for it in self.documents)

    @property
    def never_understood(self) -> list[Doubt]:
        """The doubts about what never had a valid version."""
        return [doubt for doubt in self.doubts if not doubt.has_last_good]

    def says_the_same(self, other: "FileContent") -> bool:
        return (self.documents, self.problems, self.doubts) == (other.documents, other.problems, other.doubts)


def read(path: Path, version: Version, known: FileContent, now: float, reader: Reader) -> FileContent:
    """Return the file's content. `known` is its previous content, `now` the clock in seconds."""
    if kind_of(path) in {Kind.OTHER, Kind.FOLDER}:  # opening a named pipe would wait for its writer
        sentence = "cannot be read: it is neither a regular file nor a folder that can be listed"
        return _doubtful(path, version, known, sentence)
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


def _doubtful(path: Path, version: Version | None, known: FileContent, sentence: str, line: int = 0) -> FileContent:
    if known.documents:
        sentence = f"{sentence}; {_KEPT}"
    problem = Problem(FileOrigin(str(path), line), str(path), "", sentence)
    has_last_good = (bool(known.documents) or known.size > 0) and not known.never_understood
    return FileContent(version, known.size, known.documents, [], [Doubt(problem, has_last_good, EVERYWHERE)])


def _emptied(path: Path, version: Version, known: FileContent) -> FileContent:
    if known.documents:
        return replace(
            known,
            version=version,
            problems=[],
            doubts=[
                held(path, f"is empty; {_KEPT} until it has other content; remove it to remove its objects"),
                *known.never_understood,
            ],
            waits=None,
        )
    problem = _empty(path)
    if (known.version is None or known.never_understood) and _is_young(version):  # it may be about to be written
        return FileContent(None, doubts=[Doubt(problem, False, EVERYWHERE)])
    return FileContent(version, problems=[problem])


def _empty(path: Path) -> Problem:
    sentence = "contains no object; remove it, or add the objects that belong in it"
    return Problem(FileOrigin(str(path)), str(path), "", sentence, DocumentCode.FILE_EMPTY)


def _is_young(version: Version) -> bool:
    return len(version) > 1 and time.time() - version[0] / 1e9 < LOST_SECONDS


def held(path: Path, sentence: str) -> Doubt:
    return Doubt(Problem(FileOrigin(str(path)), str(path), "", sentence, DocumentCode.CONTENT_HELD), True, EVERYWHERE)


def _kept(version: Version, size: int, known: FileContent, contents: manifest.Contents) -> FileContent:
    """Return the file's content, with the last valid versions of the documents that are now unreadable."""
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
    return FileContent(version, size, documents, [told.get(it, it) for it in contents.problems], doubts)


def _settled(path: Path, found: FileContent, known: FileContent, now: float) -> FileContent:
    """Return `found`, or `known` while a policy in the file may be half written."""
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
    sentence = f"changes {names}; the change takes effect once the file has not been written for {seconds:g} s"
    doubts = [held(path, sentence), *known.never_understood]
    return replace(known, version=None, problems=[], doubts=doubts, waits=(version, since))
