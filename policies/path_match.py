"""Whether a path is the one that a route or another policy means.

https://gateway-api.sigs.k8s.io/reference/spec/#httppathmatch
"""

from dataclasses import dataclass
from enum import IntEnum

from policies.matching import Regex


class PathKind(IntEnum):
    """In the order of precedence."""

    EXACT = 0
    PREFIX = 1
    REGEX = 2
    TEXT_PREFIX = 3
    """Istio's: character by character. Ordered tables have it, which know no precedence."""


@dataclass(frozen=True, slots=True)
class PathMatch:
    """`value` is the text of the API: a path, a prefix by segments (`/v2` covers `/v2/x`, not `/v20`) or by characters,
    or a regular expression, compiled in `regex`. What `ignores_case` is written in lower case."""

    kind: PathKind = PathKind.PREFIX
    value: bytes = b"/"
    regex: Regex | None = None
    ignores_case: bool = False

    @property
    def prefix(self) -> bytes:
        """The prefix without its trailing slash; empty for `/`."""
        return self.value.removesuffix(b"/")

    def accepts(self, path: bytes) -> bool:
        """Whether this one alone covers a path, which a table finds out for all of its routes together."""
        if self.ignores_case:
            path = path.lower()
        match self.kind:
            case PathKind.EXACT:
                return path == self.value
            case PathKind.TEXT_PREFIX:
                return path.startswith(self.value)
            case PathKind.PREFIX:
                return not self.prefix or path == self.prefix or path.startswith(self.prefix + b"/")
            case PathKind.REGEX:
                return self.regex is not None and self.regex.accepts(path)


ANY_PATH = PathMatch()
