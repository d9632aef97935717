"""Rules that are carried out as they are written, and hardly as they are meant: what never matches, never counts, ends
early, or gives away too much."""

from collections import Counter
from collections.abc import Iterator

from l4.config.codes import Code
from l4.config.documents import Problem
from policies.retry import DEFAULT_RETRIES
from policies.route import Match, Rule, RuleSource
from waypoint.ask.lint.shadows import shadows
from waypoint.ask.lint.subject import Subject, items, mapping, problem

_MESH_PARENTS = frozenset({"Service", "ServiceEntry"})

_Place = tuple[RuleSource, Match, int]
"""A match of a rule; the number tells equal ones of a rule apart."""


def lint(subject: Subject) -> Iterator[Problem]:
    yield from _never_matching(subject)
    yield from _hostnames(subject)
    for source, rule in subject.rules().items():
        yield from _weights(subject, source, rule)
        yield from _cors(subject, source, rule)
        yield from _times(subject, source, rule)


def _never_matching(subject: Subject) -> Iterator[Problem]:
    """What is found in no table at all: a route that is attached to several services may matter in one of them."""
    takers: dict[_Place, RuleSource] = {}
    alive: set[_Place] = set()
    for _, table in subject.tables():
        shadowed = {id(shadow.route): shadow.taker.rule.source for shadow in shadows(table)}
        count: Counter[tuple[RuleSource, Match]] = Counter()
        for route in table.routes:
            source, match = route.rule.source, route.match
            if source is None:
                continue
            place = (source, match, count[source, match])
            count[source, match] += 1
            taker = shadowed.get(id(route), source)
            if taker is None or taker == source:  # a match that repeats another one of its rule takes nothing away
                alive.add(place)
            else:
                takers.setdefault(place, taker)
    dead = {place: taker for place, taker in takers.items() if place not in alive}
    rules_alive = {source for source, _, _ in alive}
    told: set[RuleSource] = set()
    for (source, match, _), taker in dead.items():
        sentence = f"every request it could take is taken by {taker}"
        if source in rules_alive:
            text = f"{match.path.kind.name} {match.path.value.decode()} never matches: {sentence}"
            yield from subject.problem_of_rule(source, "matches", text, Code.RULE_NEVER_MATCHES)
        elif source not in told:
            told.add(source)
            yield from subject.problem_of_rule(source, "", f"never matches: {sentence}", Code.RULE_NEVER_MATCHES)


def _hostnames(subject: Subject) -> Iterator[Problem]:
    for document in subject.of_kind("HTTPRoute", "GRPCRoute"):
        spec = mapping(document.content.get("spec"))
        parents = {parent.get("kind", "Gateway") for _, parent in items(spec.get("parentRefs"))}
        if spec.get("hostnames") and parents and parents <= _MESH_PARENTS:
            sentence = "has no effect: behind a Service, requests are routed by the address that they go to"
            yield problem(document, "spec.hostnames", sentence, Code.HOSTNAMES_IGNORED)


def _weights(subject: Subject, source: RuleSource, rule: Rule) -> Iterator[Problem]:
    if rule.filters.redirect is not None:
        return
    weights = [backend.weight for backend in rule.backends]
    if not any(weights):
        reason = "all its weights are 0" if weights else "it has neither a backend nor a redirect"
        sentence = f"answers every request with 500: {reason}"
        yield from subject.problem_of_rule(
            source, "backendRefs" if weights else "", sentence, Code.RULE_WITHOUT_BACKEND
        )
        return
    for index, weight in enumerate(weights):
        if not weight:
            field, sentence = f"backendRefs[{index}].weight", "gets no request, because its weight is 0"
            yield from subject.problem_of_rule(source, field, sentence, Code.BACKEND_NEVER_COUNTS)


def _cors(subject: Subject, source: RuleSource, rule: Rule) -> Iterator[Problem]:
    cors = rule.filters.cors
    if cors is None or not cors.has_credentials:
        return
    wide = [origin.value.decode() for origin in cors.origins if origin.value in {b"*", b"http://*", b"https://*"}]
    if wide:
        sentence = f"allows credentials to {wide[0]}: any page may act as whoever looks at it; list the origins"
        yield from subject.problem_of_rule(source, "filters", sentence, Code.CREDENTIALS_FOR_ANY_ORIGIN)


def _times(subject: Subject, source: RuleSource, rule: Rule) -> Iterator[Problem]:
    request, attempt = rule.timeouts.request, rule.timeouts.backend_request
    if rule.retry is None or rule.retry is DEFAULT_RETRIES or request is None or attempt is None:
        return
    attempts = rule.retry.attempts + 1
    if attempts * attempt > request:
        sentence = (
            f"{request:g} s end before {attempts} attempts of {attempt:g} s (backendRequest) do; give it more time"
        )
        yield from subject.problem_of_rule(source, "timeouts.request", sentence, Code.TIMEOUT_CUTS_RETRIES)
