"""Waypoints that share the connections of a Service: what applies to only one of the two."""

from collections.abc import Iterator

from l4.config.documents import Problem
from l4.discovery.label_names import USE_WAYPOINT_CANARY
from l4.discovery.objects import Gateway
from l4.discovery.policy_objects import PolicyObjects
from l4.discovery.waypoints_ahead import NoWaypoints, everybody, identities_of
from l4.discovery.workload import GatewayAddress, Service, Workload
from l4.discovery.workload_policies import WorkloadPolicies
from policies.access import Access
from policies.attributes import Identity, Peer
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.bindings import POLICIES
from waypoint.ask.lint.subject import Subject, items, mapping, problem

_FOR_WAYPOINTS = (*POLICIES, "AuthorizationPolicy", "RequestAuthentication", "Telemetry")

Name = tuple[str, str]
"""Namespace and name of a Gateway."""


def lint(subject: Subject) -> Iterator[Problem]:
    shared = [it for it in subject.registry.services.values() if it.shares]
    if shared:
        yield from _for_one_of_two(subject, shared)
        yield from _let_in_one_of_two(subject, shared)


def _for_one_of_two(subject: Subject, shared: list[Service]) -> Iterator[Problem]:
    """Policies for a waypoint, while another one gets a share of the same connections."""
    others: dict[Name, set[Name]] = {}
    for service in shared:
        both = set(map(_name, service.waypoints))
        for it in both:
            others.setdefault(it, set()).update(both - {it})
    for document in subject.of_kind(*_FOR_WAYPOINTS):
        spec = mapping(document.content.get("spec"))
        refs = ((index, ref) for index, ref in items(spec.get("targetRefs")) if ref.get("kind") == "Gateway")
        named = {index: (document.key.namespace, str(ref.get("name"))) for index, ref in refs}
        for index, gateway in named.items():
            for other in sorted(others.get(gateway, set()) - set(named.values())):
                sentence = f"has no effect at {'/'.join(other)}, which gets a share of the same connections; target "
                sentence += "the Services, or both Gateways"
                yield problem(document, f"spec.targetRefs[{index}]", sentence, LintCode.NOT_FOR_CANARY)


def _let_in_one_of_two(subject: Subject, shared: list[Service]) -> Iterator[Problem]:
    """Workloads whose policies let in one waypoint and not the other.

    Policies of a control plane decide that if there is one. Two classes of waypoints say so: one is Istio's.
    """
    classes = {
        (it.key.namespace, it.key.name): it.value.spec.gateway_class_name for it in subject.resources.of(Gateway)
    }
    policies = WorkloadPolicies(PolicyObjects.of(subject.resources).policies, NoWaypoints(everybody))
    for service in shared:
        document = subject.named("ServiceEntry" if service.is_entry else "Service", service.namespace, service.name)
        if document is None or len({classes.get(_name(it)) for it in service.waypoints}) < 2:
            continue
        refused = next(_refused(subject, service, policies), None)
        if refused is not None:
            other, identity, workload = refused
            sentence = (
                f"policies of workload {workload.namespace}/{workload.name} let in the waypoint "
                f"{'/'.join(_name(service.waypoints[0]))} and not {'/'.join(other)}, to which a share of its "
                f"connections goes: allow the principal {identity.principal}, too"
            )
            yield problem(document, f"metadata.labels[{USE_WAYPOINT_CANARY}]", sentence, LintCode.CANARY_NOT_LET_IN)


def _refused(
    subject: Subject, service: Service, policies: WorkloadPolicies
) -> Iterator[tuple[Name, Identity, Workload]]:
    first, *others = ((it, identities_of(subject.registry, it)) for it in service.waypoints)
    for endpoint in service.endpoints:
        for port in endpoint.ports.values():
            if not first[1] or not all(_is_let_in(it, endpoint.workload, port, policies) for it in first[1]):
                continue
            for other, identities in others:
                for it in sorted(identities, key=str):
                    if not _is_let_in(it, endpoint.workload, port, policies):
                        yield _name(other), it, endpoint.workload


def _is_let_in(identity: Identity, workload: Workload, port: int, policies: WorkloadPolicies) -> bool:
    authorization = policies.of(workload)
    access = Access(Peer(identity, "127.0.0.1", 0), workload.addresses[:1], port)
    return authorization is None or authorization.judge(access).is_allowed


def _name(waypoint: GatewayAddress) -> Name:
    return waypoint.namespace, waypoint.gateway
