"""Path matches of routes and policies.

https://gateway-api.sigs.k8s.io/reference/spec/#httppathmatch
"""

from dataclasses import dataclass
from enum import IntEnum

from policies.matching import Regex


class PathKind(IntEnum):
    """Kinds of path matches, in order of precedence."""

    EXACT = 0
    PREFIX = 1
    REGEX = 2
    TEXT_PREFIX = 3
    """Istio's prefix, which ignores segments. Only ordered tables use it; they have no precedence."""


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A path match. `value` is the API's text: a path, a prefix or a regular expression (compiled in `regex`).

    A PREFIX matches whole segments (`/v2` matches `/v2/x`, not `/v20`); a TEXT_PREFIX matches characters. With
    `ignores_case`, `value` is lower-case.
    """

    kind: PathKind = PathKind.PREFIX
    value: bytes = b"/"
    regex: Regex | None = None
    ignores_case: bool = False

    @property
    def prefix(self) -> bytes:
        """The prefix without its trailing slash; empty for `/`."""
        return self.value.removesuffix(b"/")

    def accepts(self, path: bytes) -> bool:
        """Whether this match alone accepts a path. A table does the same for all of its routes at once."""
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
