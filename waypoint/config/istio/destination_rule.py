"""The schema of DestinationRule (networking.istio.io), validated like istiod does, and the selection of rules.

`DestinationRules` finds the rules of a service and merges them for each port or subset. The first namespace with a rule
for the host decides: the waypoint's, the service's, then the mesh's root. Rules of other namespaces are ignored,
because rules here apply to all clients. Within a namespace, an exact host precedes wildcards, and longer wildcards
precede shorter ones. Rules for the same host are merged: the oldest rule's policy, and the subsets of all. A host
without dots is a Service in the rule's namespace.

A subset's policy overrides the host's field by field. A port's policy replaces it entirely and inherits nothing.
https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated

from msgspec import Meta, Struct, field

from l4.config.codes import Code, DocumentCode
from l4.config.documents import Problem
from l4.config.resources import Resource, Strict
from l4.discovery.labels import CARRIED
from l4.discovery.objects import ROOT_NAMESPACE, Metadata
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, ServicePort
from waypoint.config.api_fields import repeated
from waypoint.config.codes import ConfigCode
from waypoint.config.istio.traffic_policy import (
    ClientTLS,
    ConnectionPool,
    LoadBalancer,
    OutlierDetection,
    RetryBudgetSettings,
    TrafficPolicy,
)
from waypoint.config.reach import Reach


class Subset(Struct, frozen=True, rename="camel"):
    """Endpoints of the host with all of these labels. Without labels, all endpoints."""

    name: Annotated[
        str,
        Meta(
            max_length=63,
            pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?\Z",
            description="the name of a subset: letters, digits, and - and . within",
        ),
    ]
    labels: dict[str, str] = field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class WorkloadSelector(Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = field(default_factory=dict)

    def selects(self, labels: Mapping[str, str]) -> bool:
        return self.match_labels.items() <= labels.items()


class DestinationRuleSpec(Struct, frozen=True, rename="camel"):
    host: Annotated[str, Meta(min_length=1, max_length=253)]
    traffic_policy: TrafficPolicy | None = None
    subsets: Annotated[tuple[Subset, ...], Meta(max_length=4096)] = ()
    export_to: Annotated[tuple[str, ...], Meta(max_length=256)] = ()
    workload_selector: WorkloadSelector | None = None

    def __post_init__(self) -> None:
        if (name := repeated(subset.name for subset in self.subsets)) is not None:
            raise ValueError(f"subsets: {name!r} is repeated")


class DestinationRule(Strict, frozen=True):
    metadata: Metadata
    spec: DestinationRuleSpec


Rule = Resource[DestinationRule]


@dataclass(frozen=True, slots=True)
class Part:
    """Position of a part of a policy, for problems."""

    rule: Rule
    field: str

    def problem(self, field: str, sentence: str, code: Code = DocumentCode.NOT_CARRIED_OUT) -> Problem:
        rule = self.rule
        return Problem(rule.origin, str(rule.key), f"{self.field}.{field}", sentence, code)


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of a port of a service or subset. Each part has its position."""

    connection_pool: tuple[ConnectionPool, Part] | None = None
    load_balancer: tuple[LoadBalancer, Part] | None = None
    outlier_detection: tuple[OutlierDetection, Part] | None = None
    tls: tuple[ClientTLS, Part] | None = None
    retry_budget: tuple[RetryBudgetSettings, Part] | None = None


NO_POLICY = Policy()
_OF_PORTS = frozenset({"connection_pool", "load_balancer", "outlier_detection", "tls"})


class DestinationRules:
    """`labels` are those of the waypoint's pods."""

    def __init__(self, resources: Iterable[Rule], registry: Registry, reach: Reach, labels: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._reach = reach
        self._labels = labels
        self._by_place: dict[tuple[str, str], list[Rule]] = {}
        self._wildcards: dict[str, list[str]] = {}
        self._hidden: list[tuple[str, Rule]] = []
        for rule in sorted(resources, key=lambda it: (it.value.metadata.creation_timestamp, it.key)):
            if self._is_for_us(rule):
                self._add(rule, registry)
            elif rule.value.spec.workload_selector is None:
                self._hidden.append((self._host(rule, registry), rule))
        for hosts in self._wildcards.values():
            hosts.sort(key=len, reverse=True)

    def of(self, service: Service) -> list[Rule]:
        """Return the rules for a service, oldest first. If some select our pods, only these."""
        for namespace in self._heard(service):
            for host in self._hosts(namespace, service.hostname):
                if (rules := self._by_place.get((namespace, host))) is not None:
                    return [rule for rule in rules if rule.value.spec.workload_selector is not None] or rules
        return []

    def tell_unheard(self, services: Collection[Service]) -> None:
        """Report rules for these services that are not exported, or are in an ignored namespace."""
        by_host: dict[str, list[Rule]] = {}
        for (_, host), rules in self._by_place.items():
            by_host.setdefault(host, []).extend(rules)
        for service in services:
            for rule in by_host.get(service.hostname, ()):
                if rule.key.namespace not in self._heard(service):
                    places = " or ".join(self._heard(service))
                    sentence = f"has no effect: a rule for {service.hostname} must be in namespace {places}"
                    self._tell(rule, "spec.host", sentence)
        hosts = {service.hostname for service in services}
        for host, rule in self._hidden:
            if host in hosts:
                sentence = (
                    f"has no effect on {host}: it is not exported to {self._reach.waypoint}, the waypoint's namespace"
                )
                self._tell(rule, "spec.exportTo", sentence)

    def _tell(self, rule: Rule, field: str, sentence: str) -> None:
        self.problems.append(Problem(rule.origin, str(rule.key), field, sentence, ConfigCode.NOT_ENTITLED))

    def subset(self, service: Service, name: str) -> tuple[Subset, Part] | None:
        for rule in self.of(service):
            for index, subset in enumerate(rule.value.spec.subsets):
                if subset.name == name:
                    return subset, Part(rule, f"spec.subsets[{index}].trafficPolicy")
        return None

    def tell_empty(self, service: Service, subset: Subset, part: Part) -> None:
        """Report a subset whose endpoints may only lack labels that discovery does not carry."""
        members = [*(it.workload for it in service.endpoints), *(it.workload for it in service.names)]
        if all(it.has_all_labels for it in members) or any(
            subset.labels.items() <= it.labels.items() for it in members
        ):
            return
        wanted = ", ".join(f"{name}={value}" for name, value in subset.labels.items())
        sentence = (
            f"no endpoint of {service.hostname} is known to have the labels {wanted}, so requests to this subset get "
            "503. Of pods in other namespaces than the waypoint's, discovery carries only the canonical name and "
            f"revision, which stand for {', '.join(sorted(CARRIED))}"
        )
        field = f"{part.field.rpartition('.')[0]}.labels"
        self.problems.append(
            Problem(part.rule.origin, str(part.rule.key), field, sentence, DocumentCode.NOT_CARRIED_OUT)
        )

    def policy(self, service: Service, port: ServicePort, subset: tuple[Subset, Part] | None = None) -> Policy:
        """Return the policy of a port of the service, or of one of its subsets."""
        policy = NO_POLICY
        for rule in self.of(service):
            if rule.value.spec.traffic_policy is not None:
                own = Part(rule, "spec.trafficPolicy")
                policy = _merged(policy, rule.value.spec.traffic_policy, own, port)
                break
        if subset is not None and subset[0].traffic_policy is not None:
            policy = _merged(policy, subset[0].traffic_policy, subset[1], port)
        return policy

    def _heard(self, service: Service) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self._reach.waypoint, service.namespace, ROOT_NAMESPACE)))

    def _add(self, rule: Rule, registry: Registry) -> None:
        namespace, host = rule.key.namespace, self._host(rule, registry)
        if host.startswith("*") and host not in (wildcards := self._wildcards.setdefault(namespace, [])):
            wildcards.append(host)
        self._by_place.setdefault((namespace, host), []).append(rule)
        self.problems.extend(_not_carried_out(rule))

    def _host(self, rule: Rule, registry: Registry) -> str:
        host = rule.value.spec.host.lower()
        named = registry.service_named(rule.key.namespace, host) if "." not in host else None
        return named.hostname if named is not None else host

    def _is_for_us(self, rule: Rule) -> bool:
        """A selector selects clients in the rule's namespace; the waypoint is the client of endpoints."""
        spec, namespace = rule.value.spec, rule.key.namespace
        if spec.workload_selector is not None:
            return namespace == self._reach.waypoint and spec.workload_selector.selects(self._labels)
        return self._reach.sees(namespace, spec.export_to, None)

    def _hosts(self, namespace: str, hostname: str) -> Iterator[str]:
        yield hostname
        yield from (host for host in self._wildcards.get(namespace, ()) if hostname.endswith(host[1:]))


def _merged(inherited: Policy, policy: TrafficPolicy, own: Part, port: ServicePort) -> Policy:
    parts = {
        it.name: (value, Part(own.rule, f"{own.field}.{_camel(it.name)}"))
        for it in fields(Policy)
        if (value := getattr(policy, it.name)) is not None
    }
    for index, of_port in enumerate(policy.port_level_settings):
        if of_port.port.number == port.port:
            place = f"{own.field}.portLevelSettings[{index}]"
            for name in _OF_PORTS:
                value = getattr(of_port, name)
                parts[name] = (value, Part(own.rule, f"{place}.{_camel(name)}")) if value is not None else None  # type: ignore[assignment]
            break
    return replace(inherited, **parts)


def _not_carried_out(rule: Rule) -> Iterator[Problem]:
    """Yield problems of fields that no port supports."""
    spec = rule.value.spec
    places = [("spec", spec.traffic_policy)]
    places += [(f"spec.subsets[{index}]", subset.traffic_policy) for index, subset in enumerate(spec.subsets)]
    for place, policy in places:
        part = Part(rule, f"{place}.trafficPolicy")
        if policy is not None and policy.tunnel is not None:
            yield part.problem("tunnel", "separate tunnels are not supported; remove it")
        if policy is not None and policy.proxy_protocol is not None:
            yield part.problem("proxyProtocol", "is not supported, and endpoints get no such header; remove it")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
