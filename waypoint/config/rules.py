"""Rules of HTTPRoute and GRPCRoute → rules of the data path.

What can't be carried out stays a local matter: a filter that we don't know makes its rule answer 500, because the API
forbids to act as if it were not there; a mirror that leads nowhere is left out, and the request goes on.
"""

from collections.abc import Iterable, Iterator

from l4.config.codes import Code
from l4.config.documents import ObjectKey
from policies.attributes import ClusterName
from policies.filters import NO_FILTERS, Filters
from policies.matching import Exact, Regex, StringMatch
from policies.rewrite import HeaderEdit
from policies.route import FieldMatch, Match, PathKind, PathMatch, Route, Rule, RuleSource, WeightedBackend
from policies.timeout import NO_TIMEOUTS, Timeouts
from waypoint.config import gateway_api as api
from waypoint.config.http_route import HTTPRouteMatch, HTTPRouteRule
from waypoint.config.references import Reference, References, Unresolved
from waypoint.config.report import Report

_PATH_KINDS = {"Exact": PathKind.EXACT, "PathPrefix": PathKind.PREFIX, "RegularExpression": PathKind.REGEX}
_FILTERS = frozenset({"RequestHeaderModifier", "ResponseHeaderModifier"})
_BACKEND_FILTERS = _FILTERS - {"RequestRedirect", "CORS"}
_NOWHERE = (WeightedBackend(None),)


class Rules:
    """Compiles the rules of one route object; what is wrong with them goes into `report`, and the numbers of those that
    can't be carried out into `dropped`."""

    def __init__(self, key: ObjectKey, references: References, report: Report) -> None:
        self.dropped: set[int] = set()
        self._key = key
        self._references = references
        self._report = report

    def http(self, rules: tuple[HTTPRouteRule, ...]) -> Iterator[Route]:
        for index, rule in enumerate(rules):
            matches = [_http_match(match) for match in rule.matches or (HTTPRouteMatch(),)]
            compiled = self._rule(index, rule, matches)
            yield from (Route(match, compiled) for match in matches)

    def _rule(self, index: int, rule: HTTPRouteRule, matches: list[Match]) -> Rule:
        field = f"spec.rules[{index}]"
        key = self._key
        name = rule.name or f"{key.namespace}.{key.name}.{index}"
        source = RuleSource(key.kind, key.namespace, key.name, index)
        if not self._are_known(f"{field}.filters", rule.filters, _FILTERS):
            self.dropped.add(index)
            return Rule(name, _NOWHERE, source=source)
        prefix = matches[0].path.prefix if matches[0].path.kind is PathKind.PREFIX else b""
        filters = self._filters(f"{field}.filters", rule.filters, prefix)
        backends = tuple(
            self._backend(f"{field}.backendRefs[{number}]", ref, prefix) for number, ref in enumerate(rule.backend_refs)
        )
        return Rule(name, backends, filters, _timeouts(rule.timeouts), source=source)

    def _backend(self, field: str, ref: api.BackendRef, prefix: bytes) -> WeightedBackend:
        cluster = self._resolved(field, ref)
        if not self._are_known(f"{field}.filters", ref.filters, _BACKEND_FILTERS):
            return WeightedBackend(None, ref.weight)
        return WeightedBackend(cluster, ref.weight, self._filters(f"{field}.filters", ref.filters, prefix))

    def _resolved(self, field: str, ref: Reference) -> ClusterName | None:
        found = self._references.resolve(self._key, ref)
        if not isinstance(found, Unresolved):
            return found
        self._report.unresolve(f"{field}.{found.field}", found.sentence, found.code, found.reason)
        return None

    def _are_known(self, field: str, filters: tuple[api.Filter, ...], known: frozenset[str]) -> bool:
        unknown = [(number, it.type) for number, it in enumerate(filters) if it.type not in known]
        for number, kind in unknown:
            place = f"{field}[{number}]"
            if kind in _FILTERS:
                sentence = f"{kind} can't stand at a backend, only at a rule; its share answers 500"
            else:
                sentence = f"{kind} is not carried out; requests for it answer 500"
            self._report.drop(place, sentence, Code.FILTER_INVALID)
        return not unknown

    def _filters(self, field: str, filters: tuple[api.Filter, ...], prefix: bytes) -> Filters:
        if not filters:
            return NO_FILTERS
        return Filters(
            request_edit=_edit([it.request_header_modifier for it in filters]),
            response_edit=_edit([it.response_header_modifier for it in filters]),
        )


# -- matches -------------------------------------------------------------------------------------------------------


def _http_match(match: HTTPRouteMatch) -> Match:
    regex = Regex.parse(match.path.value) if match.path.type == "RegularExpression" else None
    return Match(
        path=PathMatch(_PATH_KINDS[match.path.type], match.path.value.encode(), regex),
        method=match.method.encode() if match.method else None,
        headers=tuple(_first_of_each(match.headers, lower=True)),
        query=tuple(_first_of_each(match.query_params, lower=False)),
    )


def _first_of_each(matches: Iterable[api.HeaderMatch | api.QueryParamMatch], *, lower: bool) -> Iterator[FieldMatch]:
    """Of several matches for one name only the first counts, says the API."""
    seen: set[str] = set()
    for match in matches:
        name = match.name.lower() if lower else match.name
        if name not in seen:
            seen.add(name)
            yield FieldMatch(name.encode(), _string_match(match.type, match.value))


def _string_match(kind: str, value: str) -> StringMatch:
    return Regex.parse(value) if kind == "RegularExpression" else Exact(value.encode())


# -- what is done --------------------------------------------------------------------------------------------------


def _timeouts(timeouts: api.Timeouts) -> Timeouts:
    if timeouts.request is None and timeouts.backend_request is None:
        return NO_TIMEOUTS
    request = api.parse_duration(timeouts.request) if timeouts.request is not None else None
    attempt = api.parse_duration(timeouts.backend_request) if timeouts.backend_request is not None else None
    return Timeouts(request if attempt is None else attempt, attempt)


def _edit(modifiers: list[api.HeaderModifier | None]) -> HeaderEdit | None:
    """All modifiers of one direction as one edit; None when there is none."""
    given = [it for it in modifiers if it is not None]
    if not given:
        return None
    changed = [(it.name.lower().encode(), it.value.encode()) for modifier in given for it in modifier.set]
    return HeaderEdit(
        set=tuple(header for header in changed if header[0] != b"host"),
        add=tuple((it.name.lower().encode(), it.value.encode()) for modifier in given for it in modifier.add),
        remove=tuple(sorted(name.lower().encode() for modifier in given for name in modifier.remove)),
        authority=next((value for name, value in changed if name == b"host"), None),
    )
