"""Judge each match of a table separately: whether it won, why it is weaker than the winner, or why it does not match.

The table itself finds the winner with an index; this slower way can give reasons.
"""

from collections.abc import Iterator

from policies.attributes import Peer, RequestHead
from policies.path_match import PathKind, PathMatch
from policies.query import parse_query
from policies.route import FieldMatch, Match, OrderedTable, Route, Table, precedence
from waypoint.ask.explanation import MatchTold, Verdict
from waypoint.ask.words import match_words, rule_name
from waypoint.config.words import text, wanted

MAX_OTHERS = 50
"""Maximum number of matches with other paths to report."""
_CRITERIA = (
    "its kind of path match has lower precedence",
    "its path is shorter",
    "it does not match on the method",
    "it matches on fewer headers",
    "it matches on fewer query parameters",
)
"""The criteria of `policies.route.precedence`, in its order."""
_FURTHER_DOWN = "matches too, but comes later"


def judge(table: Table, head: RequestHead, peer: Peer) -> tuple[tuple[MatchTold, ...], int]:
    """Return the matches in order of precedence, and how many with other paths were left out."""
    told: list[MatchTold] = []
    winner: Route | None = None
    others = 0
    for route in table.routes:
        has_path = route.match.path.accepts(head.path)
        others += not has_path
        if not has_path and others > MAX_OTHERS:
            continue
        reasons = tuple(_reasons(route.match, head, peer, has_path=has_path))
        verdict = Verdict.LOST
        if not reasons and winner is None:
            winner, verdict = route, Verdict.WON
        elif not reasons and winner is not None:
            is_ordered = isinstance(table, OrderedTable)
            why = _FURTHER_DOWN if is_ordered else _weaker(route.match, winner.match)
            verdict, reasons = Verdict.WEAKER, (why,)
        told.append(MatchTold(rule_name(route.rule), match_words(route.match), verdict, reasons))
    return tuple(told), max(others - MAX_OTHERS, 0)


def _weaker(match: Match, winner: Match) -> str:
    compared = zip(_CRITERIA, precedence(winner), precedence(match), strict=True)
    first = next(
        (criterion for criterion, ours, its in compared if ours != its), "its route is newer, or it comes later"
    )
    return f"matches too, but {first}"


def _reasons(match: Match, head: RequestHead, peer: Peer, *, has_path: bool) -> Iterator[str]:
    """Yield the reasons why a match does not hold; none if it holds."""
    if not has_path:
        yield _other_path(match.path, head.path)
    if match.method is not None and match.method != head.method:
        yield f"the method is {text(head.method)}"
    for field in match.headers:
        yield from _field("header", field, field.value_in(head))
    for field in match.without:
        if field.forbids(head):
            value = field.value_in(head)
            told = "missing" if value is None else text(value) or "empty"
            yield f"header {text(field.name)} is {told}, and must not be"
    if match.source is not None and not match.source.accepts(peer):
        yield "it applies to other clients"
    if match.query:
        parameters = parse_query(head.query)
        for field in match.query:
            yield from _field("query parameter", field, parameters.get(field.name))


def _other_path(wanted_path: PathMatch, path: bytes) -> str:
    match wanted_path.kind:
        case PathKind.EXACT:
            return f"the path is {text(path)}"
        case PathKind.TEXT_PREFIX:
            return f"the path {text(path)} does not begin with {text(wanted_path.value)}"
        case PathKind.PREFIX:
            return f"the path {text(path)} is not below {text(wanted_path.value)}"
        case PathKind.REGEX:
            return f"the path {text(path)} does not match"


def _field(kind: str, field: FieldMatch, value: bytes | None) -> Iterator[str]:
    if value is None:
        yield f"{kind} {text(field.name)} is missing"
    elif not field.match.accepts(value):
        yield f"{kind} {text(field.name)} is {text(value) or 'empty'}, not {wanted(field.match)}"
