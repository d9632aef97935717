"""What a measured waypoint has switched on. `ours.py` and `envoys.py` say it in each one's own language."""

from dataclasses import dataclass

CLIENT = "cluster.local/ns/default/sa/client"
SERVICE, SERVICE_TCP = "127.96.0.10", "127.96.0.11"
HTTP_PORT, GRPC_PORT, TCP_PORT = 9080, 9081, 9082
TIMEOUT_SECONDS = 15
RETRIES = 2
CONNECTIONS = 4096
FAILURES, EJECTION_INTERVAL_SECONDS = 5, 10
LIMIT_PER_SECOND = 1_000_000
"""Counted, and never reached: a refused request would void the pair."""

SAMPLED_PERCENT = 1.0


@dataclass(frozen=True, slots=True)
class Setup:
    """One set of features, for both waypoints.

    `routes` are as many rules, the last of which takes everything; `rules` are as many of an ALLOW policy, only the
    last of which lets the client in, beside a DENY policy; `services` are others, with a route each; `token` is what
    each request must bring.
    """

    routes: int = 10
    rules: int = 10
    services: int = 0
    resilience: bool = True
    """Timeouts, retries, a circuit breaker and outlier detection."""
    limits: bool = True
    access_log: bool = True
    tracing: bool = True
    token: bool = False
    mirror: bool = False
    metrics: bool = True
    """Of ours only, as the two that follow."""
    json_log: bool = False
    sampled_percent: float = SAMPLED_PERCENT


FULL = Setup()
"""What the figures of the table are measured with, unless a scenario says otherwise."""

BARE = Setup(routes=1, rules=0, resilience=False, limits=False, access_log=False, tracing=False)
"""Nothing that anybody has asked for, but metrics: what each feature costs is measured from here."""


def area(number: int) -> str:
    """The path prefix of a route."""
    return f"/area-{number}"


def stranger(number: int) -> str:
    """The principal that a rule lets in, and that is not the client."""
    return f"cluster.local/ns/team-{number}/sa/app"
