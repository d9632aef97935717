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
from policies.route import Match, OrderedTable, PathKind, PathMatch, Route, RouteTable, SourceMatch

_MAX_FORMS = 32
_MAX_TAKERS = 256
_SPECIAL = frozenset(b".^$*+?{}[]()|\\")
_QUANTIFIERS = frozenset(b"*+?{")

Condition = tuple[str, bytes]
"""`method`, `header`, `query`, `without` or `source`, and its name."""

Conditions = Mapping[Condition, StringMatch | SourceMatch | bytes]
_Path = tuple[PathKind, bytes]


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
    """Where the first match wins. Each route is compared with a bounded number of those before it."""
    takers: list[tuple[Route, Conditions]] = []
    for route in table.routes:
        conditions = _all_conditions(route.match)
        taker = next(
            (
                each
                for each, its in takers
                if _covers(each.match.path, route.match.path) and its.items() <= conditions.items()
            ),
            None,
        )
        if taker is not None:
            yield Shadow(route, taker)
        elif len(takers) < _MAX_TAKERS:
            takers.append((route, conditions))


def _covers(wide: PathMatch, narrow: PathMatch) -> bool:
    """Whether the first takes every path that the second takes, as far as that is plain to see."""
    if wide.kind is PathKind.TEXT_PREFIX and wide.value in {b"", b"/"}:
        return True
    if wide.kind is PathKind.REGEX or narrow.kind is PathKind.REGEX:
        is_same = wide.kind is narrow.kind and wide.value == narrow.value
        begins = wide.kind is PathKind.TEXT_PREFIX and _literal_beginning(narrow.value).startswith(wide.value)
        return is_same or (begins and not wide.ignores_case)
    if narrow.ignores_case and not wide.ignores_case:
        return False
    value = narrow.value.lower() if wide.ignores_case else narrow.value
    if wide.kind is PathKind.EXACT:
        return narrow.kind is PathKind.EXACT and value == wide.value
    return value.startswith(wide.value)


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
