"""Everything that may become of a request, each with its share: what the data path leaves to chance, spelt out.

`decide` is asked once for each backend, with a roll that falls on it, so that nothing here decides by itself.
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
_NEVER = 1 - 2**-53  # the last roll there is: what is not certain doesn't happen


@dataclass(frozen=True, slots=True)
class Possibility:
    """One thing that may become of a request. `backend` is the place among those of `rule`, the rule as the caller's
    own wishes have changed it; `head` is what the endpoint would see, None when we answer ourselves or don't look."""

    share: float
    rule: Rule | None
    backend: int | None
    cluster: ClusterName | None
    answer: Answer | None
    error: ExchangeError | None
    head: RequestHead | None

    @property
    def filters(self) -> tuple[Filters, ...]:
        """Those of rule and backend, in their order."""
        if self.rule is None:
            return ()
        of_backend = () if self.backend is None else (self.rule.backends[self.backend].filters,)
        return (self.rule.filters, *of_backend)


def is_opaque(destination: Destination | None) -> bool:
    """Whether bytes pass there without a look at them."""
    return destination is not None and destination.app_protocol in _OPAQUE


def possibilities(
    destination: Destination | None, peer: Peer, head: RequestHead, now: float
) -> tuple[Possibility, ...]:
    """At least one; their shares add up to 1. `head` stays as it is."""
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
        shares[index] = shares.get(index, 0.0) + share  # a session's backend takes them all
        found[index] = decision, head
    for index, (decision, head) in found.items():
        its = decision.rule, index, decision.cluster, decision.answer, decision.error
        yield Possibility(left * shares[index], *its, head)


def _odds(decision: Decision) -> list[tuple[str, float]]:
    """What filters left to chance."""
    odds = decision.filtering.odds if decision.filtering is not None else {}
    return [(chance, share) for chance, share in odds.items() if 0 < share < 1]


def _striking(chance: str) -> Roll:
    """Only this happens of all that may happen."""
    return lambda rolled: 0.0 if rolled == chance else _NEVER


def _falling_on(point: float) -> Roll:
    return lambda chance: point if chance is Chance.BACKEND else _NEVER


def _points(rule: Rule) -> Iterator[tuple[float, float]]:
    """For each backend that counts, its share and a point in the middle of it."""
    weights = [backend.weight for backend in rule.backends]
    total = sum(weights)
    for weight, reached in zip(weights, accumulate(weights), strict=True):
        if weight:
            yield weight / total, (reached - weight / 2) / total
    if not total:  # where a session leads all the same
        yield 1.0, 0.0
