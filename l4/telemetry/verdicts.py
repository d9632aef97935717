"""What AuthorizationPolicies decide, counted by policy: on requests in a waypoint, on connections in a ztunnel.

Nearly every verdict allows, so the counter of a rule that allows is looked up once.
"""

from l4.telemetry.metrics import MeshMetrics, Metric, NamedService, Value, counter
from policies.authorization import Named, Verdict
from policies.balancing.endpoint import WorkloadLabels

MAX_BOUND_RULES = 4096
JUDGED_LABELS = (
    "policy",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "destination_service_name",
    "destination_service_namespace",
)
AUTHORIZATION_DENIED = counter(
    "pywaypoint_authorization_denied",
    "Requests and connections that an AuthorizationPolicy denied; `none`: no ALLOW policy allowed them.",
    JUDGED_LABELS,
)
AUTHORIZATION_ALLOWED = counter(
    "pywaypoint_authorization_allowed",
    "Requests and connections that a rule of an ALLOW AuthorizationPolicy allowed; `rule` is its index.",
    ("policy", "rule"),
)
AUTHORIZATION_AUDITED = counter(
    "pywaypoint_authorization_audited",
    "Requests and connections that a rule of an AUDIT AuthorizationPolicy matched; `rule` is its index.",
    ("policy", "rule"),
)
AUTHORIZATION_DRY_RUN = counter(
    "pywaypoint_authorization_dry_run",
    "What AuthorizationPolicies on trial would have decided.",
    ("authz_dry_run_action", "authz_dry_run_result", *JUDGED_LABELS),
)
METRICS: tuple[Metric[Value], ...] = (
    AUTHORIZATION_ALLOWED,
    AUTHORIZATION_AUDITED,
    AUTHORIZATION_DENIED,
    AUTHORIZATION_DRY_RUN,
)


class Verdicts:
    __slots__ = ("_allowed", "_metrics")

    def __init__(self, metrics: MeshMetrics) -> None:
        self._metrics = metrics
        self._allowed: dict[int, tuple[Named, Value]] = {}  # by the rule's id; the rule is kept, so that its id is, too

    def count(self, verdict: Verdict, source: WorkloadLabels, service: NamedService) -> None:
        """Count a verdict on what `source` sends to `service`."""
        for matched in verdict.audited:
            self._metrics.of(AUTHORIZATION_AUDITED).labels((str(matched.policy), str(matched.index))).add()
        if verdict.is_allowed:
            if verdict.rule is not None:
                _, allowed = self._allowed.get(id(verdict.rule)) or self._bind_allowed(verdict.rule)
                allowed.value += 1
            if not verdict.shadow:
                return
        its = source.workload, source.namespace, source.principal, service.name, service.namespace
        if not verdict.is_allowed:
            policy = str(verdict.rule.policy) if verdict.rule is not None else "none"
            self._metrics.of(AUTHORIZATION_DENIED).labels((policy, *its)).add()
        for it in verdict.shadow:
            policy = str(it.rule.policy) if it.rule is not None else "none"
            result = "allowed" if it.is_allowed else "denied"
            self._metrics.of(AUTHORIZATION_DRY_RUN).labels((it.action.lower(), result, policy, *its)).add()

    def _bind_allowed(self, rule: Named) -> tuple[Named, Value]:
        if len(self._allowed) >= MAX_BOUND_RULES:
            self._allowed.clear()
        value = self._metrics.of(AUTHORIZATION_ALLOWED).labels((str(rule.policy), str(rule.index)))
        bound = self._allowed[id(rule)] = rule, value
        return bound


def hits_of(metrics: MeshMetrics) -> dict[str, dict[str, int]]:
    """Return how often each policy has acted since the start, by its name and by what it did."""
    found: dict[str, dict[str, int]] = {}

    def add(name: str, outcome: str, count: object) -> None:
        counts = found.setdefault(name, {})
        counts[outcome] = counts.get(outcome, 0) + int(count)  # type: ignore[call-overload]

    outcomes = {AUTHORIZATION_ALLOWED: "allowed", AUTHORIZATION_AUDITED: "audited", AUTHORIZATION_DENIED: "denied"}
    for metric, outcome in outcomes.items():
        for labels, count in metrics.of(metric).snapshot().labelled():
            add(labels["policy"], outcome, count)
    for labels, count in metrics.of(AUTHORIZATION_DRY_RUN).snapshot().labelled():
        add(labels["policy"], f"would_be_{labels['authz_dry_run_result']}", count)
    return found
