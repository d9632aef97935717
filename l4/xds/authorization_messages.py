"""Convert the policies of ztunnels to `istio.security.Authorization`: the reverse of `l4.xds.authorizations`.

A policy is sent as a ztunnel enforces it: without conditions on HTTP, see `Authorization.for_bytes`. A condition for
which messages have no place is left out of a DENY, which then denies more, and its alternative is left out of an ALLOW,
which then allows less.
"""

from collections.abc import Iterable, Iterator

from google.protobuf.empty_pb2 import Empty

from l4._proto import authorization_pb2 as wire
from l4.discovery.workload_policies import Area, Scope
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
from policies.authorization import Action, All, Authorization, Policy, Rule
from policies.value_match import Networks, Ports, Texts

_ACTIONS = {Action.ALLOW: wire.ALLOW, Action.DENY: wire.DENY}


class _Inexpressible(Exception):
    """Messages have no place for the condition."""


def is_by_name(scope: Scope) -> bool:
    """Whether a policy applies only to workloads that refer to it."""
    return not isinstance(scope, Area) or bool(scope.labels)


def authorization_message(policy: Policy, scope: Scope) -> wire.Authorization:
    (enforced,) = Authorization((policy,)).for_bytes().policies
    is_allow = policy.action is Action.ALLOW
    rules = (_rule(it, is_allow=is_allow) for it in enforced.rules)
    return wire.Authorization(
        name=policy.name,
        namespace=policy.namespace,
        scope=_scope(scope),
        action=_ACTIONS[policy.action],
        rules=[it for it in rules if it is not None],
        dry_run=policy.is_dry_run,
    )


def _scope(scope: Scope) -> wire.Scope:
    if is_by_name(scope):
        return wire.WORKLOAD_SELECTOR
    assert isinstance(scope, Area)
    return wire.GLOBAL if scope.namespace is None else wire.NAMESPACE


def _rule(rule: Rule, *, is_allow: bool) -> wire.Rule | None:
    """Return None for a rule that never matches."""
    clauses: list[wire.Clause] = []
    for group in rule.groups:
        matches = [it for every in group if (it := _match(every, is_allow=is_allow)) is not None]
        if not matches:
            return None
        if all(it.ByteSize() for it in matches):  # without a condition, one holds always, and so does the group
            clauses.append(wire.Clause(matches=matches))
    return wire.Rule(clauses=clauses)


def _match(every: All, *, is_allow: bool) -> wire.Match | None:
    """Return None if the conditions never hold together. A match without conditions holds always."""
    match = wire.Match()
    for condition in every:
        try:
            if not _add(match, condition):
                return None
        except _Inexpressible:
            if is_allow:
                return None
    return match


def _add(match: wire.Match, condition: Condition) -> bool:
    """Add a condition. Returns False if it never holds. Raises _Inexpressible."""
    is_not, prefix = condition.is_not, "not_" if condition.is_not else ""
    values: list[wire.StringMatch | wire.ServiceAccountMatch | wire.Address | int]
    match condition:
        case Namespace(values=Texts(texts=texts)):
            name, values = "namespaces", list(_strings(texts))
        case Principal(values=Texts(texts=texts)):
            name, values = "principals", list(_strings(texts))
        case TrustDomain(values=Texts(texts=texts)):
            name, values = "principals", list(_strings(map(_principals_in, texts)))
        case ServiceAccount(values=Texts(texts=texts)):
            name, values = "service_accounts", list(map(_account, texts))
        case SourceIp(values=Networks() as networks):
            name, values = "source_ips", list(_addresses(networks))
        case DestinationIp(values=Networks() as networks):
            name, values = "destination_ips", list(_addresses(networks))
        case DestinationPort(values=Ports(ports=ports)):
            name, values = "destination_ports", list(ports)
        case ServerName():  # ztunnels see no name, so that no value matches
            return is_not
        case _:
            raise _Inexpressible
    if not values:
        return is_not
    into = getattr(match, f"{prefix}{name}")
    if into and not is_not:
        raise _Inexpressible  # two lists of which both must match
    into.extend(values)
    return True


def _principals_in(trust_domain: str) -> str:
    """Return the text that matches all principals of a trust domain. Raises _Inexpressible."""
    if trust_domain == "*" or trust_domain.endswith("*"):
        return trust_domain
    if trust_domain.startswith("*"):
        raise _Inexpressible
    return f"{trust_domain}/*"


def _strings(texts: Iterable[str]) -> Iterator[wire.StringMatch]:
    for text in texts:
        value = text.removeprefix("*") if text.startswith("*") else text.removesuffix("*")
        if text == "*":
            yield wire.StringMatch(presence=Empty())
        elif "*" in value:
            continue  # no name contains it
        elif text.startswith("*"):
            yield wire.StringMatch(suffix=value)
        elif text.endswith("*"):
            yield wire.StringMatch(prefix=value)
        else:
            yield wire.StringMatch(exact=value)


def _account(text: str) -> wire.ServiceAccountMatch:
    namespace, _, name = text.partition("/")
    return wire.ServiceAccountMatch(namespace=namespace, service_account=name)


def _addresses(networks: Networks) -> Iterator[wire.Address]:
    for it in networks.networks:
        yield wire.Address(address=it.network_address.packed, length=it.prefixlen)
