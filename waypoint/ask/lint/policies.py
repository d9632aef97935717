"""Policies that ztunnels can't carry out, and those of a waypoint that clients can go round.

Who calls a pod by its own address meets its ztunnel alone. What a waypoint denies is denied for good only where the
ztunnel lets nobody in but the waypoint.
"""

from collections.abc import Iterator

from l4.config.codes import Code
from l4.config.documents import Problem
from l4.discovery.workload import Workload
from l4.discovery.workload_policies import WorkloadPolicies
from policies.authorization import Action, Policy
from waypoint.ask.lint.subject import Subject, problem
from waypoint.config.snapshot import Destination


def lint(subject: Subject) -> Iterator[Problem]:
    policies = WorkloadPolicies(subject.resources, subject.registry)
    yield from policies.problems
    for snapshot in subject.snapshots:
        for destination in snapshot.destinations.values():
            yield from _passed_by(subject, destination, policies)


def _passed_by(subject: Subject, destination: Destination, policies: WorkloadPolicies) -> Iterator[Problem]:
    service = subject.registry.services.get(destination.service.hostname)
    if destination.authorization is None or service is None:
        return
    open_to_all = [it.workload for it in service.endpoints if not _is_guarded(it.workload, policies)]
    for policy in destination.authorization.policies if open_to_all else ():
        document = subject.named("AuthorizationPolicy", policy.namespace, policy.name)
        if _is_enforced(policy) and document is not None:
            sentence = (
                f"whoever calls {min(it.name for it in open_to_all)} by its own address goes round the waypoint, which "
                "alone judges this; add an AuthorizationPolicy for the pods that allows the waypoint's service account"
            )
            yield problem(document, "spec.targetRefs", sentence, Code.WAYPOINT_PASSED_BY)


def _is_guarded(workload: Workload, policies: WorkloadPolicies) -> bool:
    """Also where there is no ztunnel that could guard it."""
    authorization = policies.of(workload)
    is_allowing = authorization is not None and any(
        it.action is Action.ALLOW and not it.is_dry_run for it in authorization.policies
    )
    return is_allowing or workload.tunnel_identity is None


def _is_enforced(policy: Policy) -> bool:
    return policy.action in {Action.ALLOW, Action.DENY} and not policy.is_dry_run
