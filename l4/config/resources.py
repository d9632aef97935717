"""Documents → typed objects. A document that does not decode leaves its object's last valid version in force.

Kinds are msgspec Structs; what a type can't say, they check in `__post_init__` with a ValueError, and the field's path
comes along by itself.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import msgspec

from l4.config import manifest
from l4.config.documents import Document, ObjectKey, Origin, Problem

T = TypeVar("T", bound=msgspec.Struct)

Kinds = Mapping[tuple[str, str], type[msgspec.Struct]]
"""(API group, kind) → the Struct it decodes to."""


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    key: ObjectKey
    value: T
    origin: Origin


class Resources:
    """Typed objects, by kind."""

    def __init__(self, resources: Iterable[Resource[Any]] = ()) -> None:
        self._by_type: dict[type[msgspec.Struct], list[Resource[Any]]] = {}
        for resource in sorted(resources, key=lambda resource: resource.key):
            self._by_type.setdefault(type(resource.value), []).append(resource)

    def of(self, kind: type[T]) -> tuple[Resource[T], ...]:
        """All objects of a kind, sorted by key."""
        return tuple(cast(list[Resource[T]], self._by_type.get(kind, ())))


@dataclass(frozen=True, slots=True)
class Decoded:
    """`ignored` counts the objects of kinds nobody asked for, by `kind` and group as people write it."""

    resources: Resources
    problems: tuple[Problem, ...]
    ignored: Mapping[str, int]


class Decoder:
    """Remembers the last valid version of each object."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._good: dict[ObjectKey, tuple[Document, Resource[Any]]] = {}

    def decode(self, documents: Iterable[Document]) -> Decoded:
        good: dict[ObjectKey, tuple[Document, Resource[Any]]] = {}
        problems: list[Problem] = []
        ignored: dict[str, int] = {}
        for document in documents:
            key = document.key
            kind = self._kinds.get((key.group, key.kind))
            if kind is None:
                name = f"{key.kind}.{key.group}" if key.group else key.kind
                ignored[name] = ignored.get(name, 0) + 1
                continue
            known = self._good.get(key)
            if known is not None and known[0].content == document.content:
                good[key] = (document, replace(known[1], origin=document.origin))
                continue
            try:
                value = msgspec.convert(document.content, kind)
            except msgspec.ValidationError as error:
                problems.append(_problem(document, error, is_kept=known is not None))
                if known is not None:
                    good[key] = known
            else:
                good[key] = (document, Resource(key, value, document.origin))
        stale, self._good = self._good, good
        while stale:  # freed at once, thousands of objects would keep every other thread waiting
            stale.popitem()
        return Decoded(Resources(resource for _, resource in good.values()), tuple(problems), ignored)


_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
_PATH = re.compile(r"^(.*?)(?: - at `(?:key in )?\$\.?(.*)`)?$", re.DOTALL)


def _problem(document: Document, error: msgspec.ValidationError, *, is_kept: bool) -> Problem:
    match = _PATH.match(str(error))
    assert match is not None
    sentence, field = match[1], (match[2] or "").replace("[...]", "")
    sentence = sentence[:1].lower() + sentence[1:]
    if is_kept:
        sentence += "; the object's last valid version stays live"
    return Problem(locate(document.origin, field), str(document.key), field, sentence)


def locate(origin: Origin, field: str) -> Origin:
    """The origin of a field of an object. Reads the file again, so only where there is a problem to tell."""
    texts = ("".join(step) for step in _STEP.findall(field))
    steps = tuple(int(text) if text.isdecimal() else text for text in texts)
    try:
        with open(origin.file, "rb") as file:
            below = manifest.line_of(itertools.islice(file, origin.line - 1, None), steps)
    except (OSError, ValueError):
        return origin
    return replace(origin, line=origin.line + below)
