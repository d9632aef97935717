"""A configuration document: one YAML object, and where it came from; and what may be wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from l4.config.codes import Code


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """A place in a file: `line` counts from 1; 0 when the place is the whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class ObjectKey(NamedTuple):
    """Kubernetes' name of an object. `group` is the API group without version, empty for the core group. A tuple,
    because thousands are sorted and looked up on each change."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Document:
    key: ObjectKey
    content: Mapping[str, Any]
    origin: Origin


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Why a resource, or part of one, is not live.

    `subject` is `str(ObjectKey)`, or the file's name when the file could not be read at all; `field` is a path
    such as `spec.rules[0].backendRefs[1]`, empty when it concerns the whole; `sentence` says what is wrong and
    how to mend it.
    """

    origin: Origin
    subject: str
    field: str
    sentence: str
    code: Code = Code.INVALID

    def __str__(self) -> str:
        place = f"{self.subject} {self.field}".rstrip()
        return f"{self.origin}: {place}: {self.sentence} [{self.code}]"
