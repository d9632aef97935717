"""Policies in `/config_dump`, in the form that `istioctl ztunnel-config policy` reads.

A policy has rules, a rule has clauses that must all hold, and a clause has matches of which one must hold. These are
the rules as the ztunnel enforces them: without conditions on HTTP.
"""

from collections.abc import Iterable

from l4.discovery.workload import Workload
from l4.discovery.workload_policies import Area, PolicySet, Scope
from policies.access import (
    Condition,
    DestinationIp,
    DestinationPort,
    Namespace,
    Principal,
    ServerName,
    ServiceAccount,
    SourceIp,
    TrustDomain,
)
from policies.authorization import Authorization, Policy
from policies.value_match import Networks, Ports, Texts

_FIELDS: dict[type[Condition], str] = {
    Namespace: "namespaces",
    Principal: "principals",
    ServiceAccount: "serviceAccounts",
    SourceIp: "sourceIps",
    DestinationIp: "destinationIps",
    DestinationPort: "destinationPorts",
    # These two have no name in ztunnel's own dump, and istioctl leaves them out.
    TrustDomain: "trustDomains",
    ServerName: "serverNames",
}
_SELECTOR = "WorkloadSelector"


class PodPolicies:
    """All policies with the names of their scopes, and those that select the pods of a node.

    That a pod accepts only mutual TLS is a policy, too, as in ztunnel.
    """

    def __init__(self, policies: PolicySet, pods: Iterable[Workload]) -> None:
        scoped = [(it, _scope_name(it.scope)) for it in policies.scoped]
        selectors = [it for it, scope in scoped if scope == _SELECTOR]
        found = {str(it.policy): (it.policy, scope) for it, scope in scoped}
        self._by_uid: dict[str, tuple[str, ...]] = {}
        for pod in pods:
            selecting = [it.policy for it in selectors if it.scope.covers(pod)]
            if (strict := policies.strictness.policy(pod)) is not None:
                selecting.append(strict)
                found[str(strict)] = strict, _SELECTOR
            self._by_uid[pod.uid] = tuple(map(str, selecting))
        self.all = tuple(found.values())

    def selecting(self, workload: Workload) -> tuple[str, ...]:
        """Return the names of the policies that select a workload. Those of other nodes' pods are known only from a
        control plane."""
        return self._by_uid.get(workload.uid, workload.authorization_policies)


def _scope_name(scope: Scope) -> str:
    match scope:
        case Area(namespace=None, labels=labels) if not labels:
            return "Global"
        case Area(labels=labels) if not labels:
            return "Namespace"
    return _SELECTOR


def policy_dump(policy: Policy, scope: str) -> dict[str, object]:
    (enforced,) = Authorization((policy,)).for_bytes().policies
    return {
        "name": policy.name,
        "namespace": policy.namespace,
        "scope": scope,
        "action": policy.action.capitalize(),
        "rules": [
            [[dict(map(_field, alternative)) for alternative in group] for group in rule.groups]
            for rule in enforced.rules
        ],
        "dryRun": policy.is_dry_run,
    }


def _field(condition: Condition) -> tuple[str, list[object]]:
    name = _FIELDS[type(condition)]
    if condition.is_not:
        name = f"not{name[0].upper()}{name[1:]}"
    match condition.values:
        case Texts(texts=texts) if isinstance(condition, ServiceAccount):
            return name, list(map(_account, texts))
        case Texts(texts=texts):
            return name, list(map(_text, texts))
        case Networks(networks=networks):
            return name, list(map(str, networks))
        case Ports(ports=ports):
            return name, list(ports)
    raise TypeError(condition)


def _account(text: str) -> dict[str, str]:
    namespace, _, account = text.partition("/")
    return {"namespace": namespace, "serviceAccount": account}


def _text(text: str) -> dict[str, object]:
    if text == "*":
        return {"Presence": []}
    if text.startswith("*"):
        return {"Suffix": text[1:]}
    if text.endswith("*"):
        return {"Prefix": text[:-1]}
    return {"Exact": text}
