"""What `explain` answers: plain values, the same as JSON and, in `telling.py`, as text for people."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    WON = "won"
    WEAKER = "weaker"
    """Matches too, behind the winner."""
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
    """What the tunnel's authority names. `is_served` is False when no waypoint looks at the request; `why` says how it
    came to that, either way. `tokens` say which tokens of HTTP requests are checked; explaining checks none."""

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
    """One rule of an AuthorizationPolicy, or a policy without rules; whether it matches, and so whether it counts."""

    policy: str
    action: str
    words: str
    is_matching: bool
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class MatchTold:
    """One match of one rule. `reasons` say why it lost, or by what it is weaker than the winner."""

    rule: str
    match: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Which routes were asked. `matches` stand in their order of precedence; those whose paths differ are told only up
    to a number, and `left_out` counts the rest."""

    whose: str
    why: str
    objects: tuple[str, ...]
    matches: tuple[MatchTold, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class RuleTold:
    """`problems` are what the compiler found wrong with this rule."""

    route_name: str
    rule: str
    does: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndpointTold:
    """`identity` is whom its tunnel's certificate must name; empty for one that is dialled in plain TCP."""

    address: str
    workload: str
    identity: str
    over: str
    is_healthy: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What we answer in an endpoint's place."""

    status: int
    flag: str
    detail: str
    why: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that may become of the request: it goes to `cluster`, or gets an `answer`. `sees` is the head that was
    decided on; each attempt adds its number and timeout."""

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
    """`assumptions` are what the files leave open and the answer rests on."""

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
