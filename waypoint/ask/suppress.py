"""Suppress known problems.

As in istioctl: `CODE=KIND NAME.NAMESPACE` with globs on the command line, or the annotation
`galley.istio.io/analyze-suppress` on the object, with codes or `*`. An IST code stands for all equivalent codes.
https://istio.io/latest/docs/ops/diagnostic-tools/istioctl-analyze/#ignoring-specific-analyzer-messages
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

from l4.config.codes import Code
from l4.config.documents import Document, Problem
from waypoint.ask.codes import CODES
from waypoint.ask.lint.subject import mapping

ANNOTATION = "galley.istio.io/analyze-suppress"
ALL = frozenset(CODES)


@dataclass(frozen=True, slots=True)
class Suppression:
    """`resource` is a glob over `KIND NAME.NAMESPACE`, or `KIND NAME` without a namespace."""

    codes: frozenset[Code]
    resource: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a suppression. Raises ValueError with an explanation."""
        name, equals, resource = text.partition("=")
        codes = codes_named(name)
        if not equals or not resource.strip():
            raise ValueError(f"{text!r} is not of the form CODE=KIND NAME.NAMESPACE, such as 'PWP0103=HTTPRoute a.*'")
        if not codes:
            raise ValueError(f"{name!r} is not a code; --list-codes lists all")
        return cls(codes, resource.strip())

    def covers(self, problem: Problem) -> bool:
        return problem.code in self.codes and fnmatchcase(_resource(problem.subject), self.resource)


def codes_named(name: str) -> frozenset[Code]:
    """Return the codes for `PWP…`, `IST…` or `*`; empty if unknown."""
    name = name.strip()
    if name == "*":
        return ALL
    return frozenset(code for code in CODES if name in {code, code.ist} and name)


def annotated(documents: Iterable[Document]) -> Mapping[str, frozenset[Code]]:
    """Return the codes that objects suppress by annotation, by subject."""
    found: dict[str, frozenset[Code]] = {}
    for document in documents:
        text = mapping(mapping(document.content.get("metadata")).get("annotations")).get(ANNOTATION)
        if isinstance(text, str):
            found[str(document.key)] = frozenset().union(*map(codes_named, text.split(",")))
    return found


def _resource(subject: str) -> str:
    """Convert `HTTPRoute default/reviews` to istioctl's form `HTTPRoute reviews.default`."""
    kind, _, name = subject.partition(" ")
    namespace, slash, own = name.partition("/")
    return f"{kind} {own}.{namespace}" if slash else subject
