"""The effect of a configuration on a request, to compare two configurations exactly and in words."""

from collections.abc import Hashable
from dataclasses import dataclass

from policies.attributes import ClusterName, Peer, RequestHead
from policies.retry import DEFAULT_RETRIES
from policies.session import SessionPersistence
from waypoint.ask.possibilities import Possibility, possibilities
from waypoint.ask.words import filter_words, rule_name, rule_words
from waypoint.config.snapshot import Destination
from waypoint.config.words import cluster_name, percent

NOT_SERVED = "no waypoint"


@dataclass(frozen=True, slots=True)
class Words:
    """An effect in words. `rule` is empty if no rule matched."""

    rule: str
    where: str
    does: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule} → {self.where}" if self.rule else self.where


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect on one request.

    If `exact` is equal, no client and no endpoint can notice a difference. `ends` are all possible ends: a cluster, or
    the status of a local response.
    """

    route: str
    words: Words
    ends: frozenset[tuple[ClusterName | None, int]]
    exact: Hashable


def effect(destination: Destination | None, peer: Peer, head: RequestHead, now: float) -> Effect:
    if destination is None:
        return Effect("", Words("", NOT_SERVED), frozenset(), None)
    possible = possibilities(destination, peer, head, now)
    rule = possible[0].rule
    does = list(rule_words(rule)) if rule is not None else []
    for it in possible:
        its = filter_words(it.filters[1]) if len(it.filters) > 1 else []
        does += [f"for {_where(it)}: {words}" for words in its]
    return Effect(
        route=rule.name if rule is not None else "",
        words=Words(
            rule=rule_name(rule) if rule is not None else "",
            where=", ".join(_share(it) + _where(it) for it in possible),
            does=tuple(does),
        ),
        ends=frozenset((it.cluster, _status(it)) for it in possible),
        exact=frozenset(map(_exact, possible)),
    )


def _share(it: Possibility) -> str:
    return f"{percent(it.share)} " if it.share < 1 else ""


def _where(it: Possibility) -> str:
    return cluster_name(it.cluster) if it.cluster is not None else str(_status(it))


def _status(it: Possibility) -> int:
    answer = it.answer or it.error
    return answer.status if answer is not None else 0


def _exact(it: Possibility) -> Hashable:
    rule, head = it.rule, it.head
    parts: list[Hashable] = [round(it.share, 9), it.cluster, _status(it)]
    if it.answer is not None:
        parts.append(tuple(it.answer.headers))
    if it.error is not None:
        parts.append(it.error.detail)
    if head is not None:
        parts.append((head.method, head.authority, head.target, tuple(head.headers)))
    parts += [(filters.response_edit, filters.policies) for filters in it.filters]
    if rule is not None and it.cluster is not None:
        parts += [rule.timeouts, rule.retry or DEFAULT_RETRIES]
        if any(isinstance(policy, SessionPersistence) for policy in rule.filters.policies):
            parts.append(rule.scope)
    return tuple(parts)
