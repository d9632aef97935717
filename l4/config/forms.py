"""Documents that are written alike: libyaml parses their form once, and the values of each are put into it.

A mesh has thousands of pods whose manifests differ in names and addresses only, and parsing them is most of what a
start takes. The *form* of a text is the text without its plainest values: words and quoted text between two
delimiters, on one line. Such a value can be any other such value without anything around it being read differently. So
a form is parsed with marks in place of the values, and is used where each mark turns out to be a whole value, once.
Everything else is left to `manifest.read`: what has several objects or anchors around values, and all that is wrong.

Objects of one form share what is the same in consecutive ones, down to single strings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from l4.config import manifest

_VALUE = re.compile(
    r"""(?: (?<=:[ ]) | (?<=-[ ]) | (?<=,[ ]) | (?<=\[) )
        ( "[ !#-\[\]-~]*" | '[ -&(-~]*' | [A-Za-z0-9_] (?: [\w./+-] | :(?=[\w:]) )* )
        (?= [,}\]\n] | \Z )""",
    re.VERBOSE | re.ASCII,
)
_MARK = "\ue000"
_IS_MARK = re.compile(f"{_MARK}([0-9]+){_MARK}")
_MAX_TEXT = 32 << 10
_MAX_FORMS_TEXT = 1 << 20
"""Of all forms that are remembered, together; the one that was used least recently goes first."""

Content = dict[str, Any]


class Forms:
    """Remembers forms, within a bound."""

    def __init__(self) -> None:
        self._forms: dict[str, _Form | None] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._forms)

    def read(self, text: str) -> tuple[Content, int] | None:
        """The content of the one object in a text, and the number of lines before it. None where the text is anything
        else, or is not as plain as that."""
        if len(text) > _MAX_TEXT or _MARK in text:
            return None
        parts = _VALUE.split(text)
        values = parts[1::2]
        parts[1::2] = [f"{it[0]}{_MARK}{it[0]}" if it[0] in "\"'" else _MARK for it in values]
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
            place = 2 * number + 1
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
    """A part of a form: it gives its content from the values of a text. `first` and `last` bound those it needs."""

    first: int
    last: int

    def of(self, values: Sequence[str]) -> Any: ...


class _Word:
    """A value, as the text has it."""

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
    """A mapping or a list. What it gave last is given again for the same values."""

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
        """Without fields that are null, as everywhere."""
        pairs = zip(self._names, self._parts, strict=True)
        return {name: its for name, part in pairs if (its := part.of(values)) is not None}


@dataclass(frozen=True, slots=True)
class _Form:
    """What is parsed of a form. `line` is the number of lines before the object."""

    _root: _Part
    _line: int

    def filled(self, values: Sequence[str]) -> tuple[Content, int] | None:
        try:
            return self._root.of(values), self._line
        except ValueError:
            return None


def _part(content: Any, marks: list[int]) -> _Part:
    """Adds the marks that are in it. Raises ValueError where a mark is not a whole value."""
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
