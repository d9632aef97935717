"""Policies that ztunnels do not support, and waypoint policies that clients can bypass.

A client that calls a pod by its own address passes only its ztunnel. What a waypoint denies is denied reliably only if
the ztunnel admits nobody but the waypoint.
"""

from collections.abc import Iterator

from l4.config.documents import Problem
from l4.discovery.policy_objects import PolicyObjects
from l4.discovery.workload import Workload
from l4.discovery.workload_policies import WorkloadPolicies
from policies.authorization import Action, Policy
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.subject import Subject, problem
from waypoint.config.snapshot import Destination


def lint(subject: Subject) -> Iterator[Problem]:
    objects = PolicyObjects.of(subject.resources)
    yield from objects.problems
    policies = objects.on(subject.registry)
    passed_by: dict[Policy, set[str]] = {}
    for destination in subject.destinations():
        open_to_all = _open_to_all(subject, destination, policies)
        authorization = destination.authorization
        for policy in authorization.policies if authorization is not None and open_to_all else ():
            if _is_enforced(policy):
                passed_by.setdefault(policy, set()).update(open_to_all)
    for policy, names in passed_by.items():
        document = subject.named("AuthorizationPolicy", policy.namespace, policy.name)
        if document is not None:
            sentence = (
                f"clients that call {_some(names)} by its own address bypass the waypoint and thus this policy; "
                "add an AuthorizationPolicy for the pods that allows the waypoint's service account"
            )
            yield problem(document, "spec.targetRefs", sentence, LintCode.WAYPOINT_PASSED_BY)


def _open_to_all(subject: Subject, destination: Destination, policies: WorkloadPolicies) -> set[str]:
    service = subject.registry.services.get(destination.service.hostname)
    if destination.authorization is None or service is None:
        return set()
    return {it.workload.name for it in service.endpoints if not _is_guarded(it.workload, policies)}


def _some(names: set[str]) -> str:
    first, *others = sorted(names)
    return f"{first} (or {len(others)} more)" if others else first


def _is_guarded(workload: Workload, policies: WorkloadPolicies) -> bool:
    """Whether the workload's ztunnel restricts access. Also True if there is no ztunnel."""
    authorization = policies.of(workload)
    is_allowing = authorization is not None and any(
        it.action is Action.ALLOW and not it.is_dry_run for it in authorization.policies
    )
    return is_allowing or workload.tunnel_identity is None


def _is_enforced(policy: Policy) -> bool:
    return policy.action in {Action.ALLOW, Action.DENY} and not policy.is_dry_run
