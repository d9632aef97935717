"""A configuration document (one YAML object with its origin), and the problems it may have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from l4.config.codes import Code, DocumentCode


class ObjectKey(NamedTuple):
    """The Kubernetes name of an object. `group` is the API group without version, empty for the core group.

    A tuple, because thousands are sorted and looked up on each change.
    """

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class _Sortable:
    """Makes origins of both kinds sortable in one list of problems, files first."""

    __slots__ = ()

    @property
    def _order(self) -> tuple[object, ...]:
        raise NotImplementedError

    def __lt__(self, other: "_Sortable") -> bool:
        return self._order < other._order


@dataclass(frozen=True, slots=True)
class FileOrigin(_Sortable):
    """A place in a file: `line` counts from 1; 0 when the place is the whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    @property
    def place(self) -> object:
        """The part of the origin that other edits do not change: the file without the line."""
        return self.file

    def beside(self, subject: str) -> str:
        """Return the text for the parentheses after the name of `subject`, an object or a file."""
        return str(self)

    def heading(self, subject: str) -> str:
        """Return the beginning of a sentence about `subject`."""
        return f"{self}: {subject}"

    @property
    def _order(self) -> tuple[object, ...]:
        return 0, self.file, self.line


@dataclass(frozen=True, slots=True)
class ObjectOrigin(_Sortable):
    """An object of an API server, in one of its versions."""

    key: ObjectKey
    resource_version: str

    def __str__(self) -> str:
        return f"{self.key} (resourceVersion {self.resource_version})"

    @property
    def place(self) -> object:
        """The object without its version."""
        return self.key

    def beside(self, subject: str) -> str:
        """Return the text for the parentheses, without the object's name where the subject is that object."""
        version = f"resourceVersion {self.resource_version}"
        return version if subject == str(self.key) else f"{self.key}, {version}"

    def heading(self, subject: str) -> str:
        return f"{subject} ({self.beside(subject)})"

    @property
    def _order(self) -> tuple[object, ...]:
        return 1, self.key, self.resource_version


Origin = FileOrigin | ObjectOrigin
"""The origin of a document."""


@dataclass(frozen=True, slots=True)
class Document:
    key: ObjectKey
    content: Mapping[str, Any]
    origin: Origin


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Why a resource, or part of one, is not live.

    `subject` is `str(ObjectKey)`, or the file's name if the file could not be read at all. `field` is a path such as
    `spec.rules[0].backendRefs[1]`, empty if the problem concerns the whole subject. `sentence` says what is wrong and
    how to correct it.
    """

    origin: Origin
    subject: str
    field: str
    sentence: str
    code: Code = DocumentCode.INVALID

    def __str__(self) -> str:
        place = f"{self.origin.heading(self.subject)} {self.field}".rstrip()
        return f"{place}: {self.sentence} [{self.code}]"
