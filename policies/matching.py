"""How a value is compared: exactly, by its beginning, or with a regular expression that must match it whole.

Expressions are RE2, Envoy's language, because a tenant's expression must not be able to stop the data path: matching
takes time linear in the value. They are compiled when the configuration is, never for a request.
"""

from dataclasses import dataclass, field
from typing import Protocol, Self

import re2

MAX_PROGRAM_SIZE = 32_768
"""Istio's `re2.max_program_size`."""


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
    """The beginning of a value, character by character; an empty one is that of every value."""

    value: bytes

    def accepts(self, value: bytes) -> bool:
        return value.startswith(self.value)


@dataclass(frozen=True, slots=True)
class Regex:
    value: bytes
    _pattern: _Pattern = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with a sentence for what RE2 does not take."""
        options = re2.Options()
        options.log_errors = False
        try:
            pattern = re2.compile(text.encode(), options)
        except re2.error as error:
            reason = error.args[0] if error.args else error
            raise ValueError(f"{text!r} is no RE2 expression: {_text(reason)}") from None
        if pattern.programsize > MAX_PROGRAM_SIZE:
            raise ValueError(
                f"{text!r} compiles to {pattern.programsize} steps; at most {MAX_PROGRAM_SIZE} are allowed"
            )
        return cls(text.encode(), pattern)

    @property
    def groups(self) -> int:
        """How many there are to refer to."""
        return self._pattern.groups

    def accepts(self, value: bytes) -> bool:
        return self._pattern.fullmatch(value) is not None

    def replace(self, text: bytes, substitution: bytes) -> bytes:
        """The text with each place that the expression finds substituted; `\\1` is what its first group found."""
        return self._pattern.sub(substitution, text)


StringMatch = Exact | Prefix | Regex
ANYTHING = Prefix(b"")
"""Whatever is there."""


def _text(reason: object) -> str:
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
