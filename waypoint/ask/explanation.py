"""The answer of `explain` as plain values, used as JSON and, in `telling.py`, as text."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    WON = "won"
    WEAKER = "weaker"
    """Matches too, but has lower precedence than the winner."""
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head in canonical form."""

    method: str
    authority: str
    target: str
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The destination named by the tunnel's authority.

    `is_served` is False if no waypoint handles the request; `why` gives the reason in either case. `tokens` describe
    the token rules for HTTP requests; no token is verified here.
    """

    authority: str
    service: str
    protocol: str
    waypoint: str
    is_served: bool
    why: str
    problems: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyTold:
    """One rule of an AuthorizationPolicy, or a policy without rules, and whether it matches.

    Of those that match, at most one decides: it is the one that metrics count.
    """

    policy: str
    action: str
    words: str
    is_matching: bool
    is_dry_run: bool
    is_deciding: bool = False


@dataclass(frozen=True, slots=True)
class MatchTold:
    """One match of one rule. `reasons` say why it did not match, or why it is weaker than the winner."""

    rule: str
    match: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidate routes.

    `matches` are in order of precedence. The number of matches with other paths is limited; `left_out` counts the rest.
    """

    whose: str
    why: str
    objects: tuple[str, ...]
    matches: tuple[MatchTold, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class RuleTold:
    """The winning rule. `problems` are those found by the compiler."""

    route_name: str
    rule: str
    does: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndpointTold:
    """`identity` is the expected identity in the tunnel's certificate, or empty for plain TCP."""

    address: str
    workload: str
    identity: str
    over: str
    is_healthy: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A response by the waypoint itself."""

    status: int
    flag: str
    detail: str
    why: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One possible outcome: the request goes to `cluster`, or gets `answer`.

    `sees` is the head after all edits; each attempt adds its number and timeout.
    """

    share: float
    weight: int
    backend: str
    does: tuple[str, ...] = ()
    cluster: str = ""
    endpoints: tuple[EndpointTold, ...] = ()
    sees: Head | None = None
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """`assumptions` are those that the answer depends on, because the files leave them open."""

    summary: str
    client: str
    version: str
    request: Head | None
    found: Found
    candidates: Candidates | None = None
    rule: RuleTold | None = None
    outcomes: tuple[Outcome, ...] = ()
    policies: tuple[PolicyTold, ...] = ()
    assumptions: tuple[str, ...] = ()
