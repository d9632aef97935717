"""Outlier detection: eject endpoints that fail several times in a row for some time. Follows Envoy's consecutive
detectors.

An endpoint that reaches a threshold is ejected, unless too many already are; with 100 % all may be. It returns at the
first sweep after its ejection time, which grows with each ejection and shrinks while the endpoint behaves. Connection
failures, resets and timeouts count like a 503 or 504 response, or separately with `splits_local_origin`. Success rates
are not evaluated, as in Istio.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from policies.outcome import RESPONSE, Ending, Outcome

LONGEST_EJECTION_SECONDS = 300.0
_GATEWAY_ERRORS = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """Thresholds are numbers of consecutive failures; 0 disables a detector. Times are in seconds.

    If less than `min_health_percent` of the endpoints are not ejected, ejections are ignored and all endpoints are used
    (Envoy's panic mode). 0 disables this.
    """

    consecutive_5xx: int = 5
    consecutive_gateway_errors: int = 0
    splits_local_origin: bool = False
    consecutive_local_origin_failures: int = 5
    interval: float = 10.0
    base_ejection: float = 30.0
    max_ejection_percent: int = 10
    min_health_percent: int = 0


class Health:
    """Recent results of one endpoint. `ejected_until` is None while it is not ejected."""

    __slots__ = ("ejected_until", "errors_5xx", "gateway_errors", "local_failures", "multiplier")

    def __init__(self) -> None:
        self.errors_5xx = 0
        self.gateway_errors = 0
        self.local_failures = 0
        self.multiplier = 0
        self.ejected_until: float | None = None

    @property
    def is_ejected(self) -> bool:
        return self.ejected_until is not None

    @property
    def is_clean(self) -> bool:
        """Whether nothing has failed recently. `record` then changes nothing for a success."""
        return not (self.errors_5xx or self.gateway_errors or self.local_failures)


def record(policy: OutlierDetection, health: Health, outcome: Outcome) -> str:
    """Count the outcome of an attempt.

    Returns the name of the threshold that it reached, whose count restarts, or an empty string.
    """
    if outcome.ending is RESPONSE:
        health.local_failures = 0
        return _count(policy, health, outcome.http_status())
    if not policy.splits_local_origin:
        return _count(policy, health, 504 if outcome.ending is Ending.TIMEOUT else 503)
    health.local_failures += 1
    if health.local_failures == policy.consecutive_local_origin_failures:
        health.local_failures = 0
        return "consecutive_local_origin_failure"
    return ""


def eject(policy: OutlierDetection, health: Health, all_of_them: Collection[Health], now: float) -> bool:
    """Eject an endpoint if enough others remain. Returns whether it is now ejected."""
    if health.is_ejected:
        return False
    out = 1 + sum(it.is_ejected for it in all_of_them)
    if 100 * out > policy.max_ejection_percent * len(all_of_them):
        return False
    health.multiplier += 1
    longest = max(LONGEST_EJECTION_SECONDS, policy.base_ejection)
    health.ejected_until = now + min(policy.base_ejection * health.multiplier, longest)
    return True


def sweep(all_of_them: Iterable[Health], now: float) -> list[Health]:
    """Return ejected endpoints whose time is over to service, and list them. Call it once per interval."""
    returned = []
    for health in all_of_them:
        if health.ejected_until is None:
            health.multiplier = max(health.multiplier - 1, 0)
        elif now >= health.ejected_until:
            health.ejected_until = None
            returned.append(health)
    return returned


def panics(policy: OutlierDetection, all_of_them: Collection[Health]) -> bool:
    """Whether so few endpoints remain that all of them are used."""
    healthy = sum(not it.is_ejected for it in all_of_them)
    return 100 * healthy < policy.min_health_percent * len(all_of_them)


def _count(policy: OutlierDetection, health: Health, status: int) -> str:
    if status < 500:
        health.errors_5xx = health.gateway_errors = 0
        return ""
    health.gateway_errors = health.gateway_errors + 1 if status in _GATEWAY_ERRORS else 0
    health.errors_5xx += 1
    reached = ""
    if health.gateway_errors == policy.consecutive_gateway_errors and health.gateway_errors:
        health.gateway_errors = 0
        reached = "consecutive_gateway_failure"
    if health.errors_5xx == policy.consecutive_5xx:
        health.errors_5xx = 0
        reached = reached or "consecutive_5xx"
    return reached
