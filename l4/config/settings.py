"""Values that are fixed when a process starts: timers, sizes and names. Nothing else reads the environment.

A feature declares its settings in a section beside it. Each setting has a default, a unit and, in the docstring below
it, a reason. Sizes are bytes, times are seconds:

    @dataclass(frozen=True, slots=True)
    class DnsSettings(Section):
        title = "DNS"

        dns_min_seconds: float = setting(5.0, least=1.0)
        \"""Shortest time after which a name is asked for again, whatever its time to live is.\"""

A setting's variable is its name in capitals; where ztunnel or Istio know the same setting, `aliases` names their
variables. A program lists its sections once: those of both programs in `l4/settings.py`, a waypoint's own in
`waypoint/settings.py`. A component that needs settings takes its section when it is made, `settings.of(DnsSettings)`,
and keeps it; reading a setting is attribute access on a frozen object. `make docs` writes the titles, names, defaults
and docstrings to `docs/settings.md`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar, Self, TypeVar, cast

from l4.config.durations import is_duration, seconds_of


class InvalidSetting(ValueError):
    """A bad setting. The message names the variable, its value, and what is expected."""


T = TypeVar("T")
S = TypeVar("S", bound="Section")


@dataclass(frozen=True, slots=True)
class _Rules:
    """The bounds of a setting, beside the type of its default."""

    least: float
    most: float
    choices: tuple[str, ...]
    aliases: tuple[str, ...]


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_CUTOFF = 0.92  # one letter more, less or other
_ANY = _Rules(-float("inf"), float("inf"), (), ())


def setting(
    default: T,
    *,
    least: float = _ANY.least,
    most: float = _ANY.most,
    choices: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
) -> T:
    """A setting with bounds, choices or aliases. Any other setting is a plain field with a default."""
    return field(default=default, metadata={_Rules: _Rules(least, most, choices, aliases)})


class Section:
    """Settings that belong together. Subclasses are frozen dataclasses whose fields have docstrings."""

    __slots__ = ()
    title: ClassVar[str]
    """The heading in `docs/settings.md`."""

    def __post_init__(self) -> None:
        """Raises InvalidSetting if a value is out of bounds."""
        for it in fields_of(type(self)):
            rules, value = _rules(it), getattr(self, it.name)
            if rules.choices and value not in rules.choices:
                several = len(rules.choices) > 2
                expected = f"one of {', '.join(rules.choices)}" if several else " or ".join(rules.choices)
                raise InvalidSetting(f"{it.name.upper()} is {value!r}; it must be {expected}")
            if not isinstance(value, str) and not rules.least <= value <= rules.most:
                names = " or ".join(variables_of(it))
                raise InvalidSetting(f"{names} is {value}; it must be from {rules.least} to {rules.most}")
        self.check()

    def check(self) -> None:
        """Check what bounds and choices cannot express. Raises InvalidSetting."""


def fields_of(section: type[Section]) -> "tuple[dataclasses.Field[Any], ...]":
    return dataclasses.fields(cast("Any", section))


def variables_of(it: "dataclasses.Field[Any]") -> tuple[str, ...]:
    """Return the environment variables of a field; the first that is set counts."""
    return (it.name.upper(), *_rules(it).aliases)


def _rules(it: "dataclasses.Field[Any]") -> _Rules:
    return cast("_Rules", it.metadata.get(_Rules, _ANY))


def read(section: type[S], environment: Mapping[str, str]) -> S:
    """Return a section's defaults, overridden by environment variables. Raises InvalidSetting."""
    values = {}
    for it in fields_of(section):
        variable = next((name for name in variables_of(it) if name in environment), None)
        if variable is not None:
            is_time = it.name.endswith("_seconds")
            values[it.name] = _parse(variable, environment[variable], it.default, is_time=is_time)
    return section(**values)


class Settings:
    """The sections of a program. `Settings(HttpSettings(head_bytes=100))` has defaults for all other settings."""

    __slots__ = ("_is_closed", "_sections")

    def __init__(self, *sections: Section) -> None:
        self._sections: dict[type[Section], Section] = {type(it): it for it in sections}
        self._is_closed = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], sections: Iterable[type[Section]]) -> Self:
        """Return the defaults of a program's sections, overridden by variables. Raises InvalidSetting."""
        sections = tuple(sections)
        _check_names(environment, sections)
        settings = cls(*(read(it, environment) for it in sections))
        settings._is_closed = True
        return settings

    def of(self, section: type[S]) -> S:
        """Return the settings of a section. Raises LookupError if the program does not list it."""
        found = self._sections.get(section)
        if found is None:
            if self._is_closed:
                raise LookupError(f"{section.__name__} is not one of this program's sections; add it to their list")
            found = self._sections[section] = section()
        return cast("S", found)


def _check_names(environment: Mapping[str, str], sections: Iterable[type[Section]]) -> None:
    """Raises InvalidSetting for a variable whose name is almost a setting's, because a misspelled limit limits
    nothing."""
    known = {name for section in sections for it in fields_of(section) for name in variables_of(it)}
    by_word: dict[str, set[str]] = {}
    for name in known:
        for word in name.split("_"):
            by_word.setdefault(word, set()).add(name)
    for variable in sorted(environment.keys() - known):
        name = variable.upper()
        if "_" in name:
            candidates = set().union(*(by_word.get(word, ()) for word in name.split("_")))
            close = get_close_matches(name, sorted(candidates), 1, _CUTOFF)
            if close:
                raise InvalidSetting(f"{variable} is not the name of a setting; did you mean {close[0]}?")


def _parse(variable: str, text: str, default: object, *, is_time: bool) -> str | int | float | bool:
    """Parse a value of the default's type. Times may be durations such as `5m`, as in ztunnel."""
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text.lower() not in _BOOLEANS:
            raise InvalidSetting(f"{variable} is {text!r}; it must be true or false")
        return _BOOLEANS[text.lower()]
    try:
        if is_time and is_duration(text):
            value = seconds_of(text) or 0.0
        else:
            digits = text.encode("ascii")  # int and float take the digits of all scripts
            value = float(digits) if is_time else int(digits)
    except ValueError:
        expected = "seconds, or a time such as 5m" if is_time else "a whole number"
        raise InvalidSetting(f"{variable} is {text!r}; it must be {expected}") from None
    if not 0 <= value < float("inf"):
        raise InvalidSetting(f"{variable} is {text!r}; it must be finite and not negative")
    return int(value) if isinstance(default, int) else value
