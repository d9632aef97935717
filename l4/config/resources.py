"""Documents → typed objects. A document that does not decode leaves its object's last valid version in force.

An object without a valid version, as at start, is used as far as possible: if its kind is a list of rules, each rule
that does not decode is refused on its own, and the other rules apply. An unchanged document is not decoded again, so
that a change costs only what changed.

Kinds are msgspec Structs. What a type cannot express they check in `__post_init__` with a ValueError, and msgspec adds
the field's path.
"""

import itertools
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec

from l4.config import manifest
from l4.config.codes import Code, DocumentCode
from l4.config.difference import Difference, difference
from l4.config.documents import Document, FileOrigin, ObjectKey, Origin, Problem
from l4.config.doubts import EVERYWHERE, Doubt
from l4.config.kinds import Kind, Kinds, NearMiss, is_policy
from l4.config.shape import meaning, shape_of, unknown_fields

T = TypeVar("T", bound=msgspec.Struct)

_MAX_UNKNOWN_FIELDS = 16  # told of one object
_TOP_LEVEL = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})


class Strict(msgspec.Struct, frozen=True):
    """A kind whose `spec` is read completely. Unknown fields in it are reported, and the object loads all the same.

    Other kinds are read only in part, so that unknown fields mean nothing.
    """


@dataclass(frozen=True, slots=True)
class RuleList:
    """A list of rules in a `spec`.

    `stands_in` returns the replacement for a rule that does not decode, given the rule and the `spec`: a rule that
    decodes, and that the compiler refuses for the traffic that matches its readable part. `consequence` says what
    happens to that traffic, and `code` is the problem's code. `check` raises ValueError for a rule that conflicts with
    its `spec`.
    """

    kind: Any
    stands_in: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    consequence: str
    code: Code
    check: Callable[[Any, Mapping[str, Any]], None] | None = None


class Ruled(Strict, frozen=True):
    """A kind whose `spec` has lists of rules, by the names of their fields."""

    rule_lists: ClassVar[Mapping[str, RuleList]]


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """An object. `refused` maps (list, index in it) to the reason why the rule there was replaced by a stand-in."""

    key: ObjectKey
    value: T
    origin: Origin
    refused: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """An object that was added (`before` is None), removed (`after` is None) or changed."""

    before: Resource[Any] | None
    after: Resource[Any] | None


class Resources:
    """Typed objects, by kind."""

    def __init__(self, resources: Iterable[Resource[Any]] = ()) -> None:
        by_type: dict[type[msgspec.Struct], list[Resource[Any]]] = {}
        for resource in sorted(resources, key=lambda resource: resource.key):
            by_type.setdefault(type(resource.value), []).append(resource)
        self._by_type = {kind: tuple(its) for kind, its in by_type.items()}

    def __iter__(self) -> Iterator[Resource[Any]]:
        """Iterate over all objects, kind by kind."""
        return itertools.chain.from_iterable(self._by_type.values())

    def of(self, kind: type[T]) -> tuple[Resource[T], ...]:
        """All objects of a kind, sorted by key."""
        return cast(tuple[Resource[T], ...], self._by_type.get(kind, ()))

    def joined(self, others: Iterable[Resource[Any]]) -> "Resources":
        """Return these and other objects; of two with the same key both stay."""
        return Resources((*self, *others))

    def changed(self, changes: Iterable[Change]) -> "Resources":
        """Return the objects after some changes."""
        changes = tuple(changes)
        if not changes:
            return self
        found, touched = Resources(), {type(it.value) for change in changes for it in _both(change)}
        lists = {kind: list(self._by_type.get(kind, ())) for kind in touched}
        for change in changes:
            if change.before is not None:
                its = lists[type(change.before.value)]
                del its[_place(its, change.before.key)]
            if change.after is not None:
                its = lists[type(change.after.value)]
                its.insert(_place(its, change.after.key), change.after)
        changed = {kind: tuple(its) for kind, its in lists.items()}
        found._by_type = {kind: its for kind, its in (self._by_type | changed).items() if its}
        return found


def _both(change: Change) -> list[Resource[Any]]:
    return [it for it in (change.before, change.after) if it is not None]


def _place(resources: list[Resource[Any]], key: ObjectKey) -> int:
    return bisect_left(resources, key, key=lambda it: it.key)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The result of decoding. `ignored` counts the objects of kinds that are not read, by kind and group.

    `problems` includes those of the doubts. `changes` are relative to the last result; None if everything may have
    changed.
    """

    resources: Resources
    problems: tuple[Problem, ...]
    ignored: Mapping[str, int]
    doubts: tuple[Doubt, ...] = ()
    changes: tuple[Change, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Good:
    document: Document
    resource: Resource[Any]
    unknown_fields: tuple[str, ...]
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class _Finding:
    """The findings about a document, usually none. `miss`: its kind is almost a known kind."""

    document: Document
    problems: tuple[Problem, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    ignored: str = ""
    miss: NearMiss | None = None


class Decoder:
    """Remembers the last valid version of each object. `amend` adds defaults to a document."""

    def __init__(self, kinds: Kinds, amend: Callable[[Document], Document] = lambda document: document) -> None:
        self._kinds = kinds
        self._amend = amend
        self._good: dict[ObjectKey, _Good] = {}
        self._findings: dict[ObjectKey, _Finding] = {}
        self._documents: tuple[Document, ...] | None = None
        self._resources = Resources()

    def decode(self, documents: Iterable[Document], found: Difference | None = None) -> Decoded:
        """Return all current objects. `found` is the difference to the documents of the last call, if it is known
        already."""
        documents = tuple(documents)
        before, self._documents = self._documents, None
        decoded = None
        if before is not None:
            decoded = self._decode_changed(difference(before, documents) if found is None else found)
        if decoded is None:
            decoded = self._decode_all(documents)
            before = None
        is_regular = before is not None or len({it.key for it in documents}) == len(documents)
        if is_regular and not any(it.miss is not None for it in self._findings.values()):
            self._documents = documents
        return decoded

    def _decode_all(self, documents: tuple[Document, ...]) -> Decoded:
        good: dict[ObjectKey, _Good] = {}
        findings: list[_Finding] = []
        for document in documents:
            its, finding = self._decode(document)
            if its is not None:
                good[document.key] = its
            if finding is not None:
                findings.append(finding)
        meant = [self._meant(it.document, it.miss, good) for it in findings if it.miss is not None]
        stale, self._good = self._good, good
        while stale:  # freed at once, thousands of objects would keep every other thread waiting
            stale.popitem()
        self._findings = {finding.document.key: finding for finding in findings}
        self._resources = Resources(it.resource for it in good.values())
        return _decoded(self._resources, findings, meant, None)

    def _decode_changed(self, found: Difference) -> Decoded | None:
        """Decode only what changed.

        None if everything must be looked at: a key occurs twice, or a kind is misspelled, whose meaning depends on the
        other documents.
        """
        changed = [document for _, document in found.changed]
        known, new_keys = {document.key for document in changed}, {it.key for old, it in found.changed if old is None}
        if len(known) < len(changed) or new_keys & self._good.keys() or new_keys & self._findings.keys():
            return None
        if any(self._kinds.near_miss(it.content["apiVersion"], it.key.kind) is not None for it in changed):
            return None
        changes: list[Change] = []
        for key in found.gone:
            self._findings.pop(key, None)
            if (gone := self._good.pop(key, None)) is not None:
                changes.append(Change(gone.resource, None))
        places = {document.origin.place for document in changed}
        told = (it.document for it in self._findings.values())  # a field may have moved to another line
        moved = [it for it in told if it.origin.place in places and it.key not in known]
        for document in (*changed, *moved):
            old = self._good.get(document.key)
            new, finding = self._decode(document)
            if new is not None:
                self._good[document.key] = new
            else:
                self._good.pop(document.key, None)
            if finding is not None:
                self._findings[document.key] = finding
            else:
                self._findings.pop(document.key, None)
            if old is not new:
                changes.append(Change(*(it.resource if it is not None else None for it in (old, new))))
        self._resources = self._resources.changed(changes)
        findings = [self._findings[key] for key in sorted(self._findings)]
        return _decoded(self._resources, findings, [], tuple(changes))

    def _decode(self, document: Document) -> tuple[_Good | None, _Finding | None]:
        """Return the version of the object that is in force, and the findings."""
        document, key = self._amend(document), document.key
        kind = self._kinds.get((key.group, key.kind))
        miss = self._kinds.near_miss(document.content["apiVersion"], key.kind)
        if kind is None:
            name = f"{key.kind}.{key.group}" if key.group else key.kind
            return None, _Finding(document, ignored="" if miss is not None else name, miss=miss)
        known = self._good.get(key)
        if known is not None and not known.is_whole:
            known = None
        problems: list[Problem] = []
        doubts: list[Doubt] = []
        good: _Good | None
        try:
            good = _decode(document, kind, known, self._kinds.fields(key.group, key.kind))
            problems.extend(_unknown(document, field) for field in good.unknown_fields)
        except msgspec.ValidationError as error:
            partly = _decode_partly(document, kind) if known is None else None
            if partly is not None:
                good, refused = partly
                problems.extend(refused)
            else:
                good = known
                problem = _problem(document, kind, error, is_kept=known is not None)
                if is_policy(key.group, key.kind):
                    doubts.append(Doubt(problem, known is not None, key.namespace, is_policy=True))
                else:
                    problems.append(problem)
        if not problems and not doubts and miss is None:
            return good, None
        return good, _Finding(document, tuple(problems), tuple(doubts), miss=miss)

    def _meant(self, document: Document, miss: NearMiss, good: dict[ObjectKey, _Good]) -> Doubt:
        """Report a near miss. The object that was probably meant keeps its last valid version."""
        key, sentence, field = document.key, miss.sentence, miss.field
        is_kept = False
        if miss.meant is not None and key not in good:
            meant = key._replace(group=miss.meant[0], kind=miss.meant[1])
            if meant not in good and meant in self._good:
                good[meant] = self._good[meant]
            is_kept = meant in good
        if is_kept:
            sentence += " Until it is corrected, the last valid version stays live"
        problem = Problem(locate(document.origin, field), str(key), field, sentence, DocumentCode.KIND_UNKNOWN)
        is_missing = miss.is_policy and key not in good
        return Doubt(problem, is_kept, (key.namespace or EVERYWHERE) if is_missing else None)


def _decoded(
    resources: Resources, findings: Iterable[_Finding], meant: Iterable[Doubt], changes: tuple[Change, ...] | None
) -> Decoded:
    problems: list[Problem] = []
    doubts: list[Doubt] = []
    ignored: dict[str, int] = {}
    for finding in findings:
        problems += finding.problems
        doubts += finding.doubts
        if finding.ignored:
            ignored[finding.ignored] = ignored.get(finding.ignored, 0) + 1
    doubts += meant
    problems += [doubt.problem for doubt in doubts]
    return Decoded(resources, tuple(problems), ignored, tuple(doubts), changes)


def _decode(document: Document, kind: Kind, known: _Good | None, more: frozenset[str]) -> _Good:
    """Decode a document. `more` are the kind's top-level fields beside metadata, spec and status.

    Raises msgspec.ValidationError.
    """
    if known is not None and known.document is document:
        return known
    if known is not None and known.document.content == document.content:
        return replace(known, document=document, resource=replace(known.resource, origin=document.origin))
    stray = [name for name in document.content if name not in _TOP_LEVEL and name not in more]
    if stray and is_policy(document.key.group, document.key.kind):
        raise msgspec.ValidationError(
            f"Stands beside spec, where it has no effect; move it below spec - at `$.{stray[0]}`"
        )
    resource = Resource(document.key, msgspec.convert(document.content, kind), document.origin)
    if not issubclass(kind, Strict):
        return _Good(document, resource, tuple(stray[:_MAX_UNKNOWN_FIELDS]))
    shape = shape_of(kind) or {}
    unknown = itertools.chain(stray, unknown_fields(document.content.get("spec"), shape["spec"], "spec"))
    return _Good(document, resource, tuple(itertools.islice(unknown, _MAX_UNKNOWN_FIELDS)))


def _decode_partly(document: Document, kind: type[msgspec.Struct]) -> tuple[_Good, list[Problem]] | None:
    """Return the object without its undecodable rules, and their problems; None if other parts fail too."""
    spec = document.content.get("spec")
    if not issubclass(kind, Ruled) or not isinstance(spec, Mapping):
        return None
    content = {**document.content, "spec": {**spec}}
    problems: list[Problem] = []
    refused: dict[tuple[str, int], str] = {}
    for name, its in kind.rule_lists.items():
        rules = spec.get(name)
        if not isinstance(rules, list):
            continue
        kept = content["spec"][name] = list(rules)
        for index, rule in enumerate(rules):
            problem = _problem_of_rule(document, kind, its, f"spec.{name}[{index}]", rule)
            if problem is not None:
                problems.append(problem)
                refused[name, index] = f"{problem.field}: {problem.sentence}"
                kept[index] = its.stands_in(rule if isinstance(rule, Mapping) else {}, spec)
    try:
        value = msgspec.convert(content, kind)
    except msgspec.ValidationError:
        return None
    return _Good(document, Resource(document.key, value, document.origin, refused), (), is_whole=False), problems


def _problem_of_rule(
    document: Document, kind: type[msgspec.Struct], its: RuleList, place: str, rule: object
) -> Problem | None:
    try:
        decoded = msgspec.convert(rule, its.kind)
        if its.check is not None:
            its.check(decoded, document.content["spec"])
        return None
    except msgspec.ValidationError as error:
        sentence, inside = sentence_of(error)
        field = f"{place}.{inside}" if inside and not inside.startswith("[") else f"{place}{inside}"
        if error.__cause__ is None:
            sentence = _in_words(document.content, kind, field, str(error)) or sentence
    except ValueError as error:
        sentence, field = str(error), place
    sentence += f"; the rule is refused, and traffic that matches its readable part {its.consequence}"
    return Problem(locate(document.origin, field), str(document.key), field, sentence, its.code)


_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
_PATH = re.compile(r"^(.*?)(?: - at `(?:key in )?\$\.?(.*)`)?$", re.DOTALL)


def _unknown(document: Document, field: str) -> Problem:
    sentence = "is unknown and has no effect; check its spelling and its place"
    return Problem(locate(document.origin, field), str(document.key), field, sentence, DocumentCode.UNKNOWN_FIELD)


def _problem(
    document: Document, kind: type[msgspec.Struct], error: msgspec.ValidationError, *, is_kept: bool
) -> Problem:
    sentence, field = sentence_of(error)
    if error.__cause__ is None:
        sentence = _in_words(document.content, kind, field, str(error)) or sentence
    if is_kept:
        sentence += "; the object's last valid version stays live"
    return Problem(locate(document.origin, field), str(document.key), field, sentence)


def sentence_of(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return what is wrong, and the path of the field. msgspec's words are made to begin with a small letter."""
    match = _PATH.match(str(error))
    assert match is not None
    sentence, field = match[1], (match[2] or "").replace("[...]", "")
    return sentence if error.__cause__ is not None else sentence[:1].lower() + sentence[1:], field


def sentence_about(content: object, kind: type[msgspec.Struct], error: msgspec.ValidationError) -> str:
    """Return the error as one sentence, for content that is a part of a document."""
    sentence, field = sentence_of(error)
    told = _in_words(content, kind, field, str(error)) if error.__cause__ is None else None
    return f"{field}: {told or sentence}" if field else told or sentence


def _in_words(content: Any, kind: type[msgspec.Struct], field: str, sentence: str) -> str | None:
    """Return a plain sentence for msgspec's messages about patterns and choices, which mean little to people."""
    if not sentence.startswith(("Expected `str` matching regex", "Invalid enum value")):
        return None
    wanted = meaning(kind, _steps(field))
    if wanted is None:
        return None
    value = content
    for step in _steps(field):
        value = value[step]
    return f"{value!r} is not {wanted}"


def _steps(field: str) -> tuple[str | int, ...]:
    texts = ("".join(step) for step in _STEP.findall(field))
    return tuple(int(text) if text.isdecimal() else text for text in texts)


def locate(origin: Origin, field: str) -> Origin:
    """Return the origin of a field of an object. Reads the file again, so use it only to report a problem."""
    if not isinstance(origin, FileOrigin):
        return origin
    try:
        with open(origin.file, "rb") as file:
            return locate_in(itertools.islice(file, origin.line - 1, None), origin, field)
    except OSError:
        return origin


def locate_in(lines: Iterable[bytes], origin: FileOrigin, field: str) -> FileOrigin:
    """Like `locate`, for lines of which the first begins the object."""
    try:
        return replace(origin, line=origin.line + manifest.line_of(lines, _steps(field)))
    except ValueError:
        return origin
