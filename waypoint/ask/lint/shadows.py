"""Routes of a table that no request can reach, because stronger ones take all that they could take.

A route covers another if it stands before it in the table's order, its path takes every path of the other's, and it
asks for nothing that the other doesn't ask for in the same words. Whatever is told is true; not all that is true is
told: that several routes together leave nothing over, or that one regular expression includes another, is not looked
for.

Of one path, what is stronger and covers asks for exactly the same, so that a look-up finds it; only a prefix that is
written with a slash, or that stands before a regular expression, covers by asking for less. How many forms of asking
are compared there is bounded, so that the time stays linear.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from policies.matching import StringMatch
from policies.path_match import PathKind, PathMatch
from policies.route import Match, OrderedTable, Route, RouteTable, SourceMatch

_MAX_FORMS = 32
_SPECIAL = frozenset(b".^$*+?{}[]()|\\")
_QUANTIFIERS = frozenset(b"*+?{")

Condition = tuple[str, bytes]
"""`method`, `header`, `query`, `without` or `source`, and its name."""

Conditions = Mapping[Condition, StringMatch | SourceMatch | bytes]
_Path = tuple[PathKind, bytes]
_OrderedPath = tuple[PathKind, bytes, bool]
"""With whether case is ignored, for a value in lower case."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """`route` is never found, because of `taker`."""

    route: Route
    taker: Route


def shadows(table: RouteTable) -> Iterator[Shadow]:
    """In the order of the table."""
    takers: dict[_Path, _Takers] = {}
    for route in table.routes:
        path, conditions = route.match.path, _conditions(route.match)
        own = takers.setdefault(_key(path), _Takers())
        candidates = [own, *(takers[key] for key in _prefixes_around(path) if key in takers)]
        taker = next((it for it in (each.find(conditions) for each in candidates) if it is not None), None)
        if taker is not None:
            yield Shadow(route, taker)
        else:
            own.add(route, conditions)


def ordered_shadows(table: OrderedTable) -> Iterator[Shadow]:
    """Where the first match wins."""
    takers: dict[_OrderedPath, _Takers] = {}
    for route in table.routes:
        path, conditions = route.match.path, _all_conditions(route.match)
        wider = (takers[key] for key in _wider(path) if key in takers)
        taker = next((it for it in (each.find(conditions) for each in wider) if it is not None), None)
        if taker is not None:
            yield Shadow(route, taker)
        else:
            key = (path.kind, path.value, path.ignores_case)
            takers.setdefault(key, _Takers()).add(route, conditions)


def _wider(path: PathMatch) -> Iterator[_OrderedPath]:
    """The paths that take all that this one takes, as far as that is plain to see."""
    yield (path.kind, path.value, path.ignores_case)
    lower = path.value.lower()
    if path.kind is PathKind.REGEX:
        beginning = _literal_beginning(path.value)
        yield from ((PathKind.TEXT_PREFIX, beginning[:end], False) for end in range(len(beginning) + 1))
        yield (PathKind.TEXT_PREFIX, b"/", True)
        return
    if path.kind is PathKind.EXACT:
        yield (PathKind.EXACT, lower, True)
    for end in range(len(lower) + 1):
        yield (PathKind.TEXT_PREFIX, lower[:end], True)
        if not path.ignores_case or path.value[:end] in {b"", b"/"}:
            yield (PathKind.TEXT_PREFIX, path.value[:end], False)


class _Takers:
    """Routes of one path by what they ask for: by the form (which names), then by the values."""

    __slots__ = ("_by_form",)

    def __init__(self) -> None:
        self._by_form: dict[frozenset[Condition], dict[frozenset[object], Route]] = {}

    def add(self, route: Route, conditions: Conditions) -> None:
        self._by_form.setdefault(frozenset(conditions), {})[frozenset(conditions.items())] = route

    def find(self, conditions: Conditions) -> Route | None:
        """One that takes everything for which the conditions hold."""
        same = self._by_form.get(frozenset(conditions), {}).get(frozenset(conditions.items()))
        if same is not None:
            return same
        for form, routes in islice(self._by_form.items(), _MAX_FORMS):
            if form <= conditions.keys():
                found = routes.get(frozenset((name, conditions[name]) for name in form))
                if found is not None:
                    return found
        return None


def _all_conditions(match: Match) -> Conditions:
    without = {("without", field.name): field.match for field in match.without}
    source = {("source", b""): match.source} if match.source is not None else {}
    return {**_conditions(match), **without, **source}


def _conditions(match: Match) -> Conditions:
    conditions: dict[Condition, StringMatch | SourceMatch | bytes] = {}
    if match.method is not None:
        conditions["method", b""] = match.method
    conditions.update((("header", field.name), field.match) for field in match.headers)
    conditions.update((("query", field.name), field.match) for field in match.query)
    return conditions


def _key(path: PathMatch) -> _Path:
    return (path.kind, path.prefix if path.kind is PathKind.PREFIX else path.value)


def _prefixes_around(path: PathMatch) -> Iterator[_Path]:
    """The prefixes under which every path lies that a regular expression takes: they are all stronger."""
    if path.kind is PathKind.REGEX:
        folder = _literal_beginning(path.value)
        while b"/" in folder:
            folder = folder[: folder.rfind(b"/")]
            yield (PathKind.PREFIX, folder)
        if folder:
            yield (PathKind.PREFIX, b"")


def _literal_beginning(expression: bytes) -> bytes:
    """What every accepted value begins with, as far as that is plain to see."""
    if b"|" in expression:
        return b"/"
    end = next((index for index, byte in enumerate(expression) if byte in _SPECIAL), len(expression))
    if end < len(expression) and expression[end] in _QUANTIFIERS:
        end -= 1  # what stands before may be left out
    return expression[: max(end, 0)] or b"/"
