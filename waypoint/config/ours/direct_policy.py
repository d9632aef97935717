"""Direct attachment of our own policies to rules, for all kinds alike.

The most specific target wins: a rule of a route, the route, a port of a Service, the Service, the Gateway. Policies are
not merged. Of two policies for one target, the older one is in force, and the newer one gets a problem. Policies for
targets of other waypoints are handled and judged by those.
https://gateway-api.sigs.k8s.io/geps/gep-713/
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from msgspec import to_builtins

from l4.config.codes import Level
from l4.config.documents import ObjectKey, Problem
from l4.config.resources import Resource, Resources
from l4.discovery.codes import DiscoveryCode
from l4.discovery.objects import Gateway
from l4.discovery.workload import Service, ServicePort
from policies.route import Rule
from waypoint.config.codes import ConfigCode
from waypoint.config.gateway_api.attach import HTTP
from waypoint.config.gateway_api.grpc_route import GRPCRoute
from waypoint.config.gateway_api.http_route import HTTPRoute
from waypoint.config.ours.policy_api import TargetRef
from waypoint.config.report import Report
from waypoint.config.status import AncestorStatus, Condition, PolicyStatus, RouteStatus

C = TypeVar("C")


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """`section` is the name of a rule or port, or empty for the whole object."""

    kind: str
    namespace: str
    name: str
    section: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" + (f" {self.section}" if self.section else "")


class Targets:
    """All possible targets, and which of them are ours. `routes` are those that name this waypoint or its services."""

    def __init__(
        self,
        resources: Resources,
        services: Iterable[tuple[Service, bool]],
        gateway: tuple[str, str],
        routes: Iterable[RouteStatus],
    ) -> None:
        self._sections: dict[Target, set[str]] = {}
        self._ports: dict[Target, list[ServicePort]] = {}
        self._ours = {Target("Gateway", *gateway)}
        self._refused: set[Target] = set()
        statuses = {it.key: it for it in routes}
        for http in resources.of(HTTPRoute):
            self._add(_of(http.key), (rule.name for rule in http.value.spec.rules))
            self._judge(statuses.get(http.key), len(http.value.spec.parent_refs))
        for grpc in resources.of(GRPCRoute):
            self._add(_of(grpc.key), (rule.name for rule in grpc.value.spec.rules))
            self._judge(statuses.get(grpc.key), len(grpc.value.spec.parent_refs))
        for it in resources.of(Gateway):
            self._add(_of(it.key), ())
        for service, is_ours in services:
            target = _of_service(service)
            self._add(target, (port.name for port in service.ports))
            self._ports.setdefault(target, []).extend(service.ports)
            if is_ours:
                self._ours.add(target)

    def _add(self, target: Target, sections: Iterable[str | None]) -> None:
        self._sections.setdefault(target, set()).update(name for name in sections if name)

    def _judge(self, status: RouteStatus | None, parents: int) -> None:
        """A route that no parent accepts is ours if another waypoint has no say in that."""
        if status is None:
            return
        is_live = any(it.type == "Accepted" and it.is_true for parent in status.parents for it in parent.conditions)
        if is_live or len(status.parents) == parents:
            self._ours.add(_of(status.key))
        if not is_live:
            self._refused.add(_of(status.key))

    def is_ours(self, target: Target) -> bool:
        return replace(target, section="") in self._ours

    def why_unknown(self, target: Target) -> str | None:
        """Return why the target does not exist, or None if it does."""
        sections = self._sections.get(whole := replace(target, section=""))
        if sections is None:
            return f"there is no {whole}; the policy has no effect there"
        if target.section and target.section not in sections:
            what = "rule" if target.kind.endswith("Route") else "port"
            if not sections:
                return f"no {what} of {whole} has a name, so {target.section} does not exist: name the {what}"
            return f"{whole} has no {what} named {target.section}; the named ones are {', '.join(sorted(sections))}"
        return None

    def why_refused(self, target: Target) -> str | None:
        """Return why no request reaches the target, or None if it is not a route that no parent accepts."""
        whole = replace(target, section="")
        return f"{whole} is accepted by no parent, so the policy has no effect" if whole in self._refused else None

    def why_without_effect(self, target: Target) -> str | None:
        """Return why a policy has no effect at the target, or None if it has."""
        ports = self._ports.get(replace(target, section=""), ())
        meant = [port for port in ports if target.section in {"", port.name}]
        if not meant or any(port.app_protocol in HTTP for port in meant):
            return None
        carried = ", ".join(f"{port.port} carries {port.app_protocol.value}" for port in meant)
        return f"the policy has no effect there: port {carried}; see the port's appProtocol"


class DirectPolicies(Generic[C]):
    """All policies of one kind by target. Each is compiled once per target."""

    def __init__(
        self,
        resources: Iterable[Resource[Any]],
        targets: Targets,
        compile: Callable[[Resource[Any], Target, Report], C],
    ) -> None:
        self.problems: list[Problem] = []
        self.statuses: list[PolicyStatus] = []
        self.in_force: dict[Target, C] = {}
        self._targets = targets
        self._compile = compile
        self._owners: dict[Target, ObjectKey] = {}
        for resource in sorted(resources, key=lambda it: (it.value.metadata.creation_timestamp, it.key)):
            self._add(resource)

    def on(self, candidates: Iterable[Target]) -> C | None:
        """Return the policy of the first target that has one."""
        return next((self.in_force[target] for target in candidates if target in self.in_force), None)

    def _add(self, resource: Resource[Any]) -> None:
        report = Report(resource)
        refs: tuple[TargetRef, ...] = resource.value.spec.target_refs
        ancestors = []
        for index, ref in enumerate(refs):
            target = Target(ref.kind, resource.key.namespace, ref.name, ref.section_name or "")
            condition = self._attach(resource, target, f"spec.targetRefs[{index}]", report)
            if condition is not None:
                ancestors.append(AncestorStatus(tuple(sorted(to_builtins(ref).items())), condition))
        if ancestors:
            generation = resource.value.metadata.generation
            self.statuses.append(PolicyStatus(resource.key, generation, tuple(ancestors)))
        self.problems += report.problems

    def _attach(self, resource: Resource[Any], target: Target, field: str, report: Report) -> Condition | None:
        """Return the condition, or None if the target belongs to another waypoint."""
        if (sentence := self._targets.why_unknown(target)) is not None:
            report.tell(field, sentence, ConfigCode.TARGET_NOT_FOUND)
            return Condition("Accepted", False, "TargetNotFound", sentence)
        if not self._targets.is_ours(target):
            return None
        if (sentence := self._targets.why_refused(target)) is not None:
            report.tell(field, sentence, DiscoveryCode.POLICY_NOT_ENFORCED)
            return Condition("Accepted", False, "Invalid", sentence)
        if (sentence := self._targets.why_without_effect(target)) is not None:
            report.tell(field, sentence, ConfigCode.PROTOCOL_MISMATCH)
            return Condition("Accepted", False, "Invalid", sentence)
        owner = self._owners.setdefault(target, resource.key)
        if owner != resource.key:
            sentence = f"the older {owner} is in force at {target}; remove the target from one of them"
            report.tell(field, sentence, ConfigCode.POLICY_CONFLICTED)
            return Condition("Accepted", False, "Conflicted", sentence)
        known = len(report.problems)
        self.in_force[target] = self._compile(resource, target, report)
        if (found := report.problems[known:]) and any(it.code.level is Level.ERROR for it in found):
            return Condition("Accepted", False, "Invalid", "; ".join(f"{it.field}: {it.sentence}" for it in found))
        return Condition("Accepted", True, "Accepted", "the policy is in force")


def candidates(rule: Rule, service: Service | None, port: ServicePort | None, gateway: Target) -> Iterator[Target]:
    """Yield targets to which a policy for the rule's requests may be attached, most specific first."""
    if rule.source is not None:
        route = Target(rule.source.kind, rule.source.namespace, rule.source.name)
        yield from (replace(route, section=rule.name), route)
    if service is not None:
        whole = _of_service(service)
        if port is not None and port.name:
            yield replace(whole, section=port.name)
        yield whole
    yield gateway


def _of(key: ObjectKey) -> Target:
    return Target(key.kind, key.namespace, key.name)


def _of_service(service: Service) -> Target:
    return Target("ServiceEntry" if service.is_entry else "Service", service.namespace, service.name)
