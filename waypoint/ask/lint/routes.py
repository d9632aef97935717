"""Route rules that are probably not intended: rules that never match, have no weight, time out early, or allow too
much.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Set

from l4.config.documents import ObjectKey, Problem
from policies.cors import Cors
from policies.retry import UNDELIVERED
from policies.route import Match, Rule, RuleSource, Table
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.shadows import Shadow, ordered_shadows, shadows
from waypoint.ask.lint.subject import Subject, items, mapping, problem
from waypoint.config.codes import ConfigCode
from waypoint.config.gateway_api.grpc_route import GRPCRoute, GRPCRouteRule
from waypoint.config.gateway_api.http_route import HTTPRoute, HTTPRouteRule
from waypoint.config.gateway_api.rules import matches_of
from waypoint.config.istio.virtual_matches import match_of
from waypoint.config.istio.virtual_service import HTTPMatch, VirtualService

_MESH_PARENTS = frozenset({"Service", "ServiceEntry"})

_Place = tuple[RuleSource, Match | str, int]
"""A match of a rule, or a server name. The number distinguishes equal ones within a rule."""


def lint(subject: Subject) -> Iterator[Problem]:
    yield from _never_matching(subject)
    yield from _hostnames(subject)
    for source, rule in subject.rules().items():
        yield from _weights(subject, source, rule)
        yield from _cors(subject, source, rule)
        yield from _times(subject, source, rule)


def _never_matching(subject: Subject) -> Iterator[Problem]:
    """Report matches that are dead in every table, since a route may be attached to several services."""
    takers: dict[_Place, RuleSource] = {}
    alive: set[_Place] = set()
    for place, taker in (*_http_places(subject), *_opaque_places(subject)):
        if taker is None:
            alive.add(place)
        else:
            takers.setdefault(place, taker)
    rules_alive = {source for source, _, _ in alive}
    dead = {place: taker for place, taker in takers.items() if place not in alive}
    matches = _matches(subject, {source for source, _, _ in dead} & rules_alive)
    told: set[tuple[RuleSource, str]] = set()
    for (source, match, repetition), taker in dead.items():
        field = _field(matches[source], match, repetition) if source in matches else ""
        field = field.replace("matches", "match") if source.section == "http" else field
        if (source, field) not in told and (field or source not in rules_alive):
            told.add((source, field))
            sentence = f"never matches: {taker} takes all of its requests"
            yield from subject.problem_of_rule(source, field, sentence, ConfigCode.RULE_NEVER_MATCHES)


def _http_places(subject: Subject) -> Iterator[tuple[_Place, RuleSource | None]]:
    """Yield each match in each table, and the rule that takes all of its requests, if any."""
    found: list[tuple[Table, Iterator[Shadow]]] = [(table, shadows(table)) for _, table in subject.tables()]
    found += [(table, ordered_shadows(table)) for table in subject.ordered_tables()]
    for table, its in found:
        shadowed = {id(shadow.route): shadow.taker.rule.source for shadow in its}
        count: Counter[tuple[RuleSource, Match]] = Counter()
        for route in table.routes:
            source, match = route.rule.source, route.match
            if source is not None:
                taker = shadowed.get(id(route))
                # A duplicate match of the same rule takes nothing away.
                yield (source, match, count[source, match]), taker if taker != source else None
                count[source, match] += 1


def _opaque_places(subject: Subject) -> Iterator[tuple[_Place, RuleSource | None]]:
    """Of rules for one server name, the first takes all connections."""
    for table in subject.opaque_tables():
        first: dict[str, RuleSource] = {}
        for route in table.routes:
            source = route.rule.source
            if source is not None:
                taker = first.setdefault(route.hostname, source)
                yield (source, route.hostname, 0), taker if taker != source else None


def _matches(subject: Subject, sources: Set[RuleSource]) -> Mapping[RuleSource, list[Match]]:
    """Return the rules' matches in the written order, which tables do not preserve."""
    found: dict[RuleSource, list[Match]] = {}
    for it in subject.resources.of(VirtualService):
        for index, route in enumerate(it.value.spec.http):
            source = RuleSource(it.key.kind, it.key.namespace, it.key.name, index, "http")
            if source in sources:
                written = route.match or (HTTPMatch(),)
                found[source] = [match_of(match, subject.registry) for match in written]
    for key, rules in _written(subject):
        for index, rule in enumerate(rules):
            source = RuleSource(key.kind, key.namespace, key.name, index)
            if source in sources:
                found[source] = matches_of(rule)
    return found


def _written(subject: Subject) -> Iterator[tuple[ObjectKey, tuple[HTTPRouteRule | GRPCRouteRule, ...]]]:
    yield from ((it.key, it.value.spec.rules) for it in subject.resources.of(HTTPRoute))
    yield from ((it.key, it.value.spec.rules) for it in subject.resources.of(GRPCRoute))


def _field(matches: list[Match], match: Match | str, repetition: int) -> str:
    places = [index for index, it in enumerate(matches) if it == match]
    return f"matches[{places[repetition]}]" if repetition < len(places) else ""


def _hostnames(subject: Subject) -> Iterator[Problem]:
    for document in subject.of_kind("HTTPRoute", "GRPCRoute"):
        spec = mapping(document.content.get("spec"))
        parents = {str(parent.get("kind", "Gateway")) for _, parent in items(spec.get("parentRefs"))}
        if spec.get("hostnames") and parents and parents <= _MESH_PARENTS:
            sentence = "has no effect: requests to a Service are routed by their destination address"
            yield problem(document, "spec.hostnames", sentence, LintCode.HOSTNAMES_IGNORED)


def _weights(subject: Subject, source: RuleSource, rule: Rule) -> Iterator[Problem]:
    if rule.filters.redirect is not None:
        return
    weights = [backend.weight for backend in rule.backends]
    if not any(weights):
        reason = "all its weights are 0" if weights else "it has neither backends nor a redirect"
        sentence = f"forwards nothing and answers 500 or resets: {reason}"
        yield from subject.problem_of_rule(
            source, "backendRefs" if weights else "", sentence, LintCode.RULE_WITHOUT_BACKEND
        )
        return
    for index, weight in enumerate(weights):
        if not weight:
            field, sentence = f"backendRefs[{index}].weight", "gets no requests, because its weight is 0"
            yield from subject.problem_of_rule(source, field, sentence, LintCode.BACKEND_NEVER_COUNTS)


def _cors(subject: Subject, source: RuleSource, rule: Rule) -> Iterator[Problem]:
    cors = rule.filters.get(Cors)
    if cors is None or not cors.has_credentials:
        return
    wide = [origin.value.decode() for origin in cors.origins if origin.value in {b"*", b"http://*", b"https://*"}]
    if wide:
        sentence = f"allows credentials for {wide[0]}: any web page can act on behalf of its visitors; list the origins"
        yield from subject.problem_of_rule(source, "filters", sentence, LintCode.CREDENTIALS_FOR_ANY_ORIGIN)


def _times(subject: Subject, source: RuleSource, rule: Rule) -> Iterator[Problem]:
    retry, request = rule.retry, rule.timeouts.request
    if retry is None or request is None or retry.per_try_timeout is None or retry.conditions == UNDELIVERED:
        return
    attempts, attempt = retry.attempts + 1, retry.per_try_timeout
    if attempts * attempt > request:
        sentence = f"{request:g} s are too short for {attempts} attempts of {attempt:g} s (backendRequest); increase it"
        yield from subject.problem_of_rule(source, "timeouts.request", sentence, LintCode.TIMEOUT_CUTS_RETRIES)
