"""AuthorizationPolicies of this waypoint, by target: Service, ServiceEntry, Gateway or GatewayClass.

All policies for a service apply together. Policies without `targetRefs` belong to ztunnels, which apply them to
workloads. If a policy is so invalid that its targets are unknown, it denies everything in its namespace.
https://istio.io/latest/docs/ambient/usage/l7-features/#authorization-policy
"""

from collections.abc import Iterable, Mapping

from l4.config.documents import Problem
from l4.config.doubts import EVERYWHERE
from l4.config.resources import Resource
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.authorization_rules import compile_policy, missing_policy
from l4.discovery.objects import ROOT_NAMESPACE
from l4.discovery.workload import Service
from policies.authorization import Action, Authorization, Policy
from policies.authorizer import Authorizer
from policies.path_normalization import BASE, PathNormalization
from waypoint.config.codes import ConfigCode
from waypoint.config.istio.security_targets import EVERYTHING, SecurityTargets, waypoint_accepted
from waypoint.config.report import Report
from waypoint.config.status import ConditionsStatus


class Authorizations:
    """`gateway_namespace` is our Gateway's. `denied` are namespaces of which a policy may be missing."""

    def __init__(
        self,
        resources: Iterable[Resource[AuthorizationPolicy]],
        targets: SecurityTargets,
        gateway_namespace: str,
        trust_domains: frozenset[str],
        authorizers: Mapping[str, Authorizer],
        denied: frozenset[str] = frozenset(),
        normalization: PathNormalization = BASE,
    ) -> None:
        self.problems: list[Problem] = []
        self.statuses: list[ConditionsStatus] = []
        self._targets = targets
        self._authorizers = authorizers
        self._gateway_namespace = gateway_namespace
        self._normalization = normalization
        self._by_hostname: dict[str, list[Policy]] = {}
        self._by_namespace: dict[str, list[Policy]] = {}
        for resource in resources:
            self._add(resource, trust_domains)
        for namespace in denied:
            if namespace in {EVERYWHERE, ROOT_NAMESPACE}:
                self._by_hostname.setdefault(EVERYTHING, []).append(missing_policy(namespace))
            else:
                self._by_namespace.setdefault(namespace, []).append(missing_policy(namespace))

    def of(self, service: Service | None) -> Authorization | None:
        """Return the policies of a service, or, for None, of workloads called by their own address."""
        policies = {*self._by_hostname.get(EVERYTHING, ()), *self._by_namespace.get(self._gateway_namespace, ())}
        if service is not None:
            policies.update(self._by_hostname.get(service.hostname, ()))
            policies.update(self._by_namespace.get(service.namespace, ()))
        return Authorization(tuple(sorted(policies, key=str))) if policies else None

    def asked(self, authorization: Authorization) -> Mapping[str, Authorizer] | None:
        """Return the known authorizers that CUSTOM policies name, or None without CUSTOM policies."""
        names = {it.provider for it in authorization.policies if it.action is Action.CUSTOM and not it.is_dry_run}
        return {name: self._authorizers[name] for name in sorted(names & self._authorizers.keys())} if names else None

    def _add(self, resource: Resource[AuthorizationPolicy], trust_domains: frozenset[str]) -> None:
        report = Report(resource)
        compiled = compile_policy(resource, trust_domains, self._normalization)
        refs = compiled.targeting.refs
        hostnames = list(self._targets.of(resource, refs, report)) if refs else []
        if compiled.policy is not None:
            if not compiled.is_targeting_known:
                self._by_namespace.setdefault(resource.key.namespace, []).append(compiled.policy)
            for hostname in hostnames:
                self._by_hostname.setdefault(hostname, []).append(compiled.policy)
            provider = compiled.policy.provider
            if provider and provider not in self._authorizers:
                sentence = f"MeshConfig has no extensionProvider named {provider!r}; the requests it matches are denied"
                report.tell("spec.provider.name", sentence, ConfigCode.PROVIDER_INVALID)
        is_ours = any(map(self._targets.is_ours, hostnames))
        if is_ours or not refs:
            report.problems += compiled.problems
        if is_ours or (refs and report.problems):
            generation = resource.value.metadata.generation
            self.statuses.append(ConditionsStatus(resource.key, generation, (waypoint_accepted(report),)))
        self.problems += report.problems
