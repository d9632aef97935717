"""All possible outcomes of a request with their probabilities.

`decide` is called once per backend, with a roll that selects it, so that this module decides nothing itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName, Headers, Peer, RequestHead
from policies.chance import Chance, Roll
from policies.filters import Filters
from policies.route import Rule
from waypoint.admission.decide import Decision, decide, decide_opaque, edit_request
from waypoint.config.snapshot import Destination
from waypoint.errors import ExchangeError
from waypoint.filters.filter import Answer

_OPAQUE = frozenset({AppProtocol.TCP, AppProtocol.TLS})
_NEVER = 1 - 2**-53  # the largest roll: what is not certain does not happen


@dataclass(frozen=True, slots=True)
class Possibility:
    """One possible outcome.

    `rule` includes the caller's overrides, and `backend` is an index in its backends. `head` is what the endpoint would
    receive, or None if there is a local response or no inspection.
    """

    share: float
    rule: Rule | None
    backend: int | None
    cluster: ClusterName | None
    answer: Answer | None
    error: ExchangeError | None
    head: RequestHead | None

    @property
    def filters(self) -> tuple[Filters, ...]:
        """Filters of the rule and of the backend, in order."""
        if self.rule is None:
            return ()
        of_backend = () if self.backend is None else (self.rule.backends[self.backend].filters,)
        return (self.rule.filters, *of_backend)


def is_opaque(destination: Destination | None) -> bool:
    """Whether bytes are forwarded there without inspection."""
    return destination is not None and destination.app_protocol in _OPAQUE


def possibilities(
    destination: Destination | None, peer: Peer, head: RequestHead, now: float
) -> tuple[Possibility, ...]:
    """Return at least one outcome; shares add up to 1. `head` is not changed."""
    if is_opaque(destination):
        return tuple(_each(lambda roll: (decide_opaque(destination, peer, "", roll), None)))

    def ask(roll: Roll) -> tuple[Decision, RequestHead | None]:
        decision = decide(destination, peer, head, roll, now)
        if decision.cluster is None:
            return decision, None
        edited = replace(head, headers=Headers(head.headers))
        edit_request(decision, edited)
        return decision, edited

    return tuple(_each(ask))


def _each(ask: Callable[[Roll], tuple[Decision, RequestHead | None]]) -> Iterator[Possibility]:
    first, head = ask(lambda chance: _NEVER)
    rule = first.rule
    left = 1.0
    for chance, share in _odds(first):
        other, _ = ask(_striking(chance))
        if other.cluster is None and (other.status, other.backend) != (first.status, first.backend):
            yield Possibility(left * share, rule, None, None, other.answer, other.error, None)
            left *= 1 - share
    if rule is None or first.backend is None:
        yield Possibility(left, rule, None, first.cluster, first.answer, first.error, head)
        return
    shares: dict[int, float] = {}
    found: dict[int, tuple[Decision, RequestHead | None]] = {}
    for share, point in _points(rule):
        decision, head = ask(_falling_on(point))
        index = next(index for index, it in enumerate(rule.backends) if it is decision.backend)
        shares[index] = shares.get(index, 0.0) + share  # a session's backend takes every share
        found[index] = decision, head
    for index, (decision, head) in found.items():
        its = decision.rule, index, decision.cluster, decision.answer, decision.error
        yield Possibility(left * shares[index], *its, head)


def _odds(decision: Decision) -> list[tuple[str, float]]:
    """Return the events that filters decide at random, with their probabilities."""
    odds = decision.filtering.odds if decision.filtering is not None else None
    return [(chance, share) for chance, share in (odds or {}).items() if 0 < share < 1]


def _striking(chance: str) -> Roll:
    """Only this happens of all that may happen."""
    return lambda rolled: 0.0 if rolled == chance else _NEVER


def _falling_on(point: float) -> Roll:
    return lambda chance: point if chance is Chance.BACKEND else _NEVER


def _points(rule: Rule) -> Iterator[tuple[float, float]]:
    """Yield the share of each backend with weight, and a roll in the middle of it."""
    weights = [backend.weight for backend in rule.backends]
    total = sum(weights)
    for weight, reached in zip(weights, accumulate(weights), strict=True):
        if weight:
            yield weight / total, (reached - weight / 2) / total
    if not total:  # a session may still select a backend
        yield 1.0, 0.0
