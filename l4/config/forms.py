"""Documents that are written alike: libyaml parses their common form once, and each document only fills in its values.

A mesh has thousands of pods whose manifests differ only in names and addresses, and parsing them is most of the time of
a start. The *form* of a text is the text without its plainest values: words and quoted text between two delimiters, on
one line. Replacing such a value by another one does not change how the text around it is parsed. So a form is parsed
with marks in place of the values, and is used if each mark turns out to be one whole value.

`manifest.read` handles everything else: texts with several objects, anchors around values, and all errors. Objects of
one form share what consecutive ones have in common, down to single strings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from l4.config import manifest

_VALUE = re.compile(
    r"""( [:,-][ ] | \[ )
        ( "[ !#-\[\]-~]*" | '[ -&(-~]*' | [A-Za-z0-9_] (?: [\w./+@=-]++ | :(?=[\w:/]) )*+ )
        (?= [,}\]\n] | \Z )""",
    re.VERBOSE | re.ASCII,
)
"""The text that precedes a value, and the value."""
_MARK = "\ue000"
_IS_MARK = re.compile(f"{_MARK}([0-9]+){_MARK}")
_MAX_TEXT = 32 << 10
_MAX_FORMS_TEXT = 1 << 20
"""Bound on the text of all remembered forms together; the least recently used form is dropped first."""

Content = dict[str, Any]


class Forms:
    """A bounded cache of forms."""

    def __init__(self) -> None:
        self._forms: dict[str, _Form | None] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._forms)

    def read(self, text: str) -> tuple[Content, int] | None:
        """Return the content of the only object in a text, and the number of lines before it.

        None if the text has no usable form.
        """
        if len(text) > _MAX_TEXT or _MARK in text:
            return None
        parts = _VALUE.split(text)
        values = parts[2::3]
        parts[2::3] = [f"{it[0]}{_MARK}{it[0]}" if it[0] in "\"'" else _MARK for it in values]
        key = "".join(parts)
        form = self._forms.pop(key, None) if key in self._forms else self._parsed(parts, values, len(key))
        self._forms[key] = form
        while self._size > _MAX_FORMS_TEXT:
            oldest = next(iter(self._forms))
            del self._forms[oldest]
            self._size -= len(oldest)
        return form.filled(values) if form is not None else None

    def _parsed(self, parts: list[str], values: list[str], size: int) -> "_Form | None":
        self._size += size
        for number in range(len(values)):
            place = 3 * number + 2
            parts[place] = parts[place].replace(_MARK, f"{_MARK}{number}{_MARK}")
        plain = manifest.plain("".join(parts))
        if plain is None:
            return None
        content, line = plain
        marks: list[int] = []
        try:
            part = _part(content, marks)
        except ValueError:
            return None
        return _Form(part, line) if marks == list(range(len(values))) else None


class _Part(Protocol):
    """A part of a form. It builds its content from the values `first` to `last` of a text."""

    first: int
    last: int

    def of(self, values: Sequence[str]) -> Any: ...


class _Word:
    """A value, as written in the text."""

    __slots__ = ("_known", "_text", "first", "last")

    def __init__(self, number: int) -> None:
        self.first, self.last = number, number + 1
        self._text: str | None = None
        self._known: Any = None

    def of(self, values: Sequence[str]) -> Any:
        text = values[self.first]
        if text != self._text:
            self._known = text[1:-1] if text[0] in "\"'" else manifest.scalar(text)
            self._text = text
        return self._known


class _Constant:
    __slots__ = ("_content", "first", "last")

    def __init__(self, content: Any, place: int) -> None:
        self.first = self.last = place
        self._content = content

    def of(self, values: Sequence[str]) -> Any:
        return self._content


class _Many:
    """A mapping or a list. It returns its last content again for the same values."""

    __slots__ = ("_known", "_parts", "_values", "first", "last")

    def __init__(self, parts: "Sequence[_Part]", first: int) -> None:
        self.first, self.last = first, parts[-1].last if parts else first
        self._parts = parts
        self._values: Sequence[str] | None = None
        self._known: Any = None

    def of(self, values: Sequence[str]) -> Any:
        its = values[self.first : self.last]
        if its != self._values:
            self._known = self._made(values)
            self._values = its
        return self._known

    def _made(self, values: Sequence[str]) -> Any:
        return [part.of(values) for part in self._parts]


class _Mapping(_Many):
    __slots__ = ("_names",)

    def __init__(self, names: Sequence[str], parts: "Sequence[_Part]", first: int) -> None:
        super().__init__(parts, first)
        self._names = names

    def _made(self, values: Sequence[str]) -> Any:
        """Return the mapping without null fields, as everywhere."""
        pairs = zip(self._names, self._parts, strict=True)
        return {name: its for name, part in pairs if (its := part.of(values)) is not None}


@dataclass(frozen=True, slots=True)
class _Form:
    """A parsed form. `line` is the number of lines before the object."""

    _root: _Part
    _line: int

    def filled(self, values: Sequence[str]) -> tuple[Content, int] | None:
        try:
            return self._root.of(values), self._line
        except ValueError:
            return None


def _part(content: Any, marks: list[int]) -> _Part:
    """Build the part for `content`, adding its marks to `marks`. Raises ValueError if a mark is not a whole value."""
    first = len(marks)
    match content:
        case str() if (mark := _IS_MARK.fullmatch(content)) is not None:
            marks.append(int(mark[1]))
            return _Word(int(mark[1]))
        case str() if _MARK in content:
            raise ValueError("a value goes on after its delimiter")
        case dict():
            if any(_MARK in name for name in content):
                raise ValueError("a value is a key")
            part: _Part = _Mapping(tuple(content), [_part(it, marks) for it in content.values()], first)
        case list():
            part = _Many([_part(it, marks) for it in content], first)
        case _:
            return _Constant(content, first)
    return part if len(marks) > first else _Constant(content, first)
