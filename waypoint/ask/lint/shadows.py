"""Find routes of a table that no request can reach, because stronger routes take all of their requests.

A route covers another if it comes first, its path covers every path of the other, and all of its conditions are also
conditions of the other, in the same words. Findings are always correct but not complete: combinations of several routes
and regular expressions that include others are not examined.

For equal paths, a stronger covering route has exactly the same conditions, so a lookup finds it. Only a prefix that is
written with a slash, or one that comes before a regular expression, can cover with fewer conditions. The number of
condition forms compared there is limited, so the time remains linear.
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
"""With whether case is ignored; if so, the value is lower-case."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """`route` is unreachable because of `taker`."""

    route: Route
    taker: Route


def shadows(table: RouteTable) -> Iterator[Shadow]:
    """Yield unreachable routes in the order of the table."""
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
    """Yield unreachable routes of a table in which the first match wins."""
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
    """Yield paths that cover this one, as far as they are easy to derive."""
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
    """Routes with one path, indexed by the names and then the values of their conditions."""

    __slots__ = ("_by_form",)

    def __init__(self) -> None:
        self._by_form: dict[frozenset[Condition], dict[frozenset[object], Route]] = {}

    def add(self, route: Route, conditions: Conditions) -> None:
        self._by_form.setdefault(frozenset(conditions), {})[frozenset(conditions.items())] = route

    def find(self, conditions: Conditions) -> Route | None:
        """Return a route that takes every request with these conditions, or None."""
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
    """Yield prefixes that contain every path that a regular expression accepts; all are stronger."""
    if path.kind is PathKind.REGEX:
        folder = _literal_beginning(path.value)
        while b"/" in folder:
            folder = folder[: folder.rfind(b"/")]
            yield (PathKind.PREFIX, folder)
        if folder:
            yield (PathKind.PREFIX, b"")


def _literal_beginning(expression: bytes) -> bytes:
    """Return the literal start of all accepted values, as far as it is easy to derive."""
    if b"|" in expression:
        return b"/"
    end = next((index for index, byte in enumerate(expression) if byte in _SPECIAL), len(expression))
    if end < len(expression) and expression[end] in _QUANTIFIERS:
        end -= 1  # the preceding character is optional
    return expression[: max(end, 0)] or b"/"
