"""Compile AuthorizationPolicies for `policies.authorization`.

A policy that cannot be understood completely denies everything at its targets (see `authorization_policy`). The
exception is a policy without effect on decisions, AUDIT or in dry-run mode: it is reported and ignored.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from l4.config.documents import Problem
from l4.config.resources import Resource, sentence_of
from l4.discovery.authorization_policy import (
    DRY_RUN,
    AuthorizationPolicy,
    Operation,
    RuleSpec,
    Source,
    Spec,
    Targeting,
)
from l4.discovery.codes import DiscoveryCode
from l4.discovery.objects import ROOT_NAMESPACE, is_port
from policies import access
from policies.access import Condition
from policies.authorization import Action, Policy, Rule
from policies.path_normalization import BASE, PathNormalization
from policies.value_match import Hosts, Networks, Paths, Ports, Texts

LOCAL_TRUST_DOMAIN = "cluster.local"
"""In a policy, stands for the mesh's own trust domain."""
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_NESTED = re.compile(r"([a-z.]+)((?:\[[^\[\]]+\])+)").fullmatch
_UNSEEN = frozenset({"connection", "content-length", "transfer-encoding"})
_DENIES = "the policy is invalid and therefore denies everything at its targets"
_LEFT_OUT = "the policy is ignored"

Values = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled policy with its targets and problems.

    `policy` is None if the policy is ignored without loss. If the targets are unknown, the policy applies to its
    namespace.
    """

    policy: Policy | None
    targeting: Targeting
    problems: tuple[Problem, ...] = ()
    is_targeting_known: bool = True


def compile_policy(
    resource: Resource[AuthorizationPolicy], trust_domains: frozenset[str], normalization: PathNormalization = BASE
) -> Compiled:
    """Compile one policy.

    `trust_domains` are the mesh's trust domain and its aliases. A principal in one of them matches in all of them.
    """
    key, content = resource.key, resource.value.spec or {}
    is_dry_run = resource.value.metadata.annotations.get(DRY_RUN, "") in _TRUE
    try:
        spec = msgspec.convert(content, Spec)
        rules = tuple(_Rules(key.namespace, trust_domains, spec.action != "ALLOW", normalization).compile(spec))
    except msgspec.ValidationError as error:
        sentence, place = sentence_of(error)
        return _broken(resource, f"spec.{place}".rstrip("."), sentence, is_dry_run=is_dry_run)
    except _Invalid as error:
        return _broken(resource, error.field, error.sentence, is_dry_run=is_dry_run)
    provider = spec.provider.name if spec.provider is not None else ""
    return Compiled(Policy(key.namespace, key.name, Action(spec.action), rules, is_dry_run, provider), spec)


def missing_policy(namespace: str) -> Policy:
    """Return a policy that denies everything, for a namespace whose policies may be missing because a file is
    unreadable."""
    return Policy(namespace or ROOT_NAMESPACE, "unreadable-configuration", Action.DENY, (Rule(0),))


def _broken(resource: Resource[AuthorizationPolicy], field: str, sentence: str, *, is_dry_run: bool) -> Compiled:
    key, content = resource.key, resource.value.spec
    targeting, is_known = Targeting(), False
    with suppress(msgspec.ValidationError):
        targeting, is_known = msgspec.convert(content, Targeting), True
    is_audit = isinstance(content, dict) and content.get("action") == "AUDIT"
    policy = None
    if not is_dry_run and not is_audit:
        policy = Policy(key.namespace, key.name, Action.DENY, (Rule(0),))
    consequence = _DENIES if policy is not None else _LEFT_OUT
    problem = Problem(
        resource.origin, str(key), field, f"{sentence}; {consequence}", DiscoveryCode.AUTHORIZATION_INVALID
    )
    return Compiled(policy, targeting, (problem,), is_known)


@dataclass
class _Invalid(Exception):
    field: str
    sentence: str


@dataclass
class _Rules:
    namespace: str
    trust_domains: frozenset[str]
    is_wide: bool
    """Whether one matching reading of an ambiguous request is enough: True, unless the policy allows."""
    normalization: PathNormalization
    place: str = field(default="", init=False)

    def compile(self, spec: Spec) -> Iterator[Rule]:
        """Raises _Invalid."""
        for index, rule in enumerate(spec.rules):
            try:
                yield Rule(index, tuple(self._groups(f"spec.rules[{index}]", rule)))
            except ValueError as error:
                raise _Invalid(self.place, str(error)) from None

    def _groups(self, place: str, rule: RuleSpec) -> Iterator[tuple[tuple[Condition, ...], ...]]:
        if rule.from_:
            yield tuple(self._all(f"{place}.from[{i}].source", it.source) for i, it in enumerate(rule.from_))
        if rule.to:
            yield tuple(self._all(f"{place}.to[{i}].operation", it.operation) for i, it in enumerate(rule.to))
        for index, when in enumerate(rule.when):
            self.place = f"{place}.when[{index}]"
            make = self._of_key(when.key)
            yield (tuple(_either(make, when.values, when.not_values)),)

    def _all(self, place: str, fields: Source | Operation) -> tuple[Condition, ...]:
        found: list[Condition] = []
        for name, values in msgspec.structs.asdict(fields).items():
            self.place = f"{place}.{name}"
            if values:
                is_not = name.startswith("not_")
                found.append(self._of_field(name.removeprefix("not_"))(values, is_not))
        return tuple(found)

    def _of_field(self, name: str) -> "_Make":
        match name:
            case "principals":
                return self._principals
            case "service_accounts":
                return self._accounts
            case "ports":
                return _ports
            case "paths":
                return lambda values, is_not: access.Path(Paths(values, self.normalization), is_not, self.is_wide)
        return _FIELDS[name]

    def _of_key(self, key: str) -> "_Make":
        """Raises ValueError."""
        match key:
            case "source.principal":
                return self._principals
            case "source.serviceAccount":
                return self._accounts
            case "destination.port":
                return _ports
        if key in _KEYS:
            return _KEYS[key]
        nested = _NESTED(key)
        if nested is None:
            raise ValueError(f"key {key!r} is unknown")
        name, path = nested[1], tuple(nested[2][1:-1].split("]["))
        if name == "request.auth.claims":
            return lambda values, is_not: access.Claim(path, Texts(values), is_not)
        if name != "request.headers" or len(path) > 1:
            raise ValueError(f"key {key!r} is unknown")
        header = path[0].lower()
        if header in _UNSEEN:
            raise ValueError(f"header {header} is hop-by-hop and cannot be matched")
        return lambda values, is_not: access.Header(header.encode(), Texts(values), is_not, self.is_wide)

    def _principals(self, values: Values, is_not: bool) -> Condition:
        texts = (text for value in values for text in self._aliases(value.removeprefix("spiffe://")))
        return access.Principal(Texts(tuple(dict.fromkeys(texts))), is_not)

    def _aliases(self, principal: str) -> Iterator[str]:
        """Yield the principal in each of the mesh's trust domains, if it is in one of them."""
        trust_domain, slash, rest = principal.partition("/")
        if slash and trust_domain in {*self.trust_domains, LOCAL_TRUST_DOMAIN}:
            yield from (f"{it}/{rest}" for it in sorted(self.trust_domains))
        else:
            yield principal

    def _accounts(self, values: Values, is_not: bool) -> Condition:
        for value in values:
            if "*" in value or value.count("/") > 1:
                raise ValueError(f"{value!r} is not a service account: write NAMESPACE/NAME or NAME, without wildcards")
        accounts = (value if "/" in value else f"{self.namespace}/{value}" for value in values)
        return access.ServiceAccount(Texts(tuple(accounts)), is_not)


_Make = Callable[[Values, bool], Condition]


def _namespaces(values: Values, is_not: bool) -> Condition:
    for value in values:
        if "*" in value[1:-1]:
            raise ValueError(f"{value!r} has a wildcard that is not at the beginning or end")
    return access.Namespace(Texts(values), is_not)


def _ports(values: Values, is_not: bool) -> Condition:
    for value in values:
        if not is_port(value):
            raise ValueError(f"{value!r} is not a port from 1 to 65535")
    return access.DestinationPort(Ports(tuple(map(int, values))), is_not)


def _networks(values: Values) -> Networks:
    try:
        return Networks(tuple(ipaddress.ip_network(value, strict=False) for value in values))
    except ValueError as error:
        raise ValueError(f"{error}; write an address, or a range such as 10.0.0.0/8") from None


def _either(make: _Make, values: Values, not_values: Values) -> Iterator[Condition]:
    if values:
        yield make(values, False)
    if not_values:
        yield make(not_values, True)


_FIELDS: dict[str, _Make] = {
    "namespaces": _namespaces,
    "trust_domains": lambda values, is_not: access.TrustDomain(Texts(values), is_not),
    "request_principals": lambda values, is_not: access.RequestPrincipal(Texts(values), is_not),
    "ip_blocks": lambda values, is_not: access.SourceIp(_networks(values), is_not),
    "remote_ip_blocks": lambda values, is_not: access.RemoteIp(_networks(values), is_not),
    "hosts": lambda values, is_not: access.Host(Hosts(values), is_not),
    "methods": lambda values, is_not: access.Method(Texts(values), is_not),
}
_KEYS: dict[str, _Make] = {
    "source.ip": _FIELDS["ip_blocks"],
    "remote.ip": _FIELDS["remote_ip_blocks"],
    "source.namespace": _namespaces,
    "source.trustDomain": _FIELDS["trust_domains"],
    "request.auth.principal": _FIELDS["request_principals"],
    "request.auth.audiences": lambda values, is_not: access.Claim(("aud",), Texts(values), is_not),
    "request.auth.presenter": lambda values, is_not: access.Claim(("azp",), Texts(values), is_not),
    "destination.ip": lambda values, is_not: access.DestinationIp(_networks(values), is_not),
    "connection.sni": lambda values, is_not: access.ServerName(Texts(values), is_not),
}
