"""String matches: exact, prefix, or a regular expression that must match the whole value.

Expressions are RE2, as in Envoy. RE2 matches in time linear in the value, so a tenant's expression cannot stall the
data path. Expressions are compiled with the configuration, never per request.
"""

from dataclasses import dataclass, field
from typing import Protocol, Self

MAX_PROGRAM_SIZE = 32_768
"""Limit on the size of a compiled expression; Istio's `re2.max_program_size`."""


class _Pattern(Protocol):
    @property
    def groups(self) -> int: ...

    def fullmatch(self, text: bytes) -> object | None: ...

    def sub(self, repl: bytes, text: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Exact:
    value: bytes

    def accepts(self, value: bytes) -> bool:
        return value == self.value


@dataclass(frozen=True, slots=True)
class Prefix:
    """Matches the beginning of a value, character by character. An empty prefix matches every value."""

    value: bytes

    def accepts(self, value: bytes) -> bool:
        return value.startswith(self.value)


@dataclass(frozen=True, slots=True)
class Regex:
    value: bytes
    _pattern: _Pattern = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Compile an expression. Raises ValueError with an explanation if RE2 rejects it."""
        import re2  # only for configurations with expressions: it takes 3 MiB, most of them for libstdc++

        options = re2.Options()
        options.log_errors = False
        try:
            pattern = re2.compile(text.encode(), options)
        except re2.error as error:
            reason = error.args[0] if error.args else error
            raise ValueError(f"{text!r} is not a valid RE2 expression: {_text(reason)}") from None
        if pattern.programsize > MAX_PROGRAM_SIZE:
            raise ValueError(
                f"{text!r} compiles to {pattern.programsize} steps; at most {MAX_PROGRAM_SIZE} are allowed"
            )
        return cls(text.encode(), pattern)

    @property
    def groups(self) -> int:
        """Number of groups in the expression."""
        return self._pattern.groups

    def accepts(self, value: bytes) -> bool:
        return self._pattern.fullmatch(value) is not None

    def replace(self, text: bytes, substitution: bytes) -> bytes:
        """Replace every match in `text`. `\\1` in `substitution` is the text of the first group."""
        return self._pattern.sub(substitution, text)


StringMatch = Exact | Prefix | Regex
ANYTHING = Prefix(b"")
"""Matches every value."""


def _text(reason: object) -> str:
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
