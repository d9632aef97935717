"""The content of `/config_dump`, in the form that `istioctl ztunnel-config` reads.

Names, nesting and values are ztunnel's. What does not apply or is empty is left out, except for the columns of
istioctl's tables.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from l4 import version
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.discovery.workload import (
    ApplicationTunnel,
    GatewayAddress,
    Health,
    NamedEndpoint,
    Service,
    ServiceEndpoint,
    Workload,
)
from l4.identity.certificate import Certificate
from l4.identity.source import CertificateAwaited, CertificateSource, NoCertificate
from l4.ztunnel.node import Node
from l4.ztunnel.pods import Pods
from l4.ztunnel.policy_dump import PodPolicies, policy_dump
from l4.ztunnel.traffic import Flow
from policies.attributes import Identity
from policies.host_port import host_port

Dumped = dict[str, object]


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod of the node, and its open connections."""

    pod: Workload
    is_served: bool
    flows: tuple[Flow, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """What a ztunnel knows and does at one moment. `certificates` are those of its pods, or why there is none. `hits`
    are by the policy's name."""

    network: str
    registry: Registry
    policies: PodPolicies
    hits: Mapping[str, Mapping[str, int]]
    certificates: Mapping[Identity, Certificate | NoCertificate]
    pods: tuple[PodState, ...]


def state_of(node: Node, pods: Pods) -> State:
    flows = node.traffic.flows()
    served = [PodState(it.pod, True, tuple(flows.get(it.pod.uid, ()))) for it in pods.proxies.values()]
    found = (*served, *(PodState(it, False) for it in pods.unserved.values()))
    return State(
        node.settings.of(Mesh).network,
        node.registry.current,
        PodPolicies(node.policies.current.set, [it.pod for it in found]),
        node.traffic.hits,
        {it.pod.identity: _get(node.certificates, it.pod.identity) for it in found},
        found,
    )


def _get(certificates: CertificateSource, identity: Identity) -> Certificate | NoCertificate:
    try:
        return certificates.get(identity).certificate
    except NoCertificate as error:
        return error


def dump(state: State) -> Dumped:
    """May take a second for a large mesh; needs nothing but `state`."""
    registry = state.registry
    places = _Places(registry, state.network)
    named = {it.workload.uid: it for service in registry.services.values() for it in service.names}
    workloads = {uid: it.workload for uid, it in named.items()} | dict(registry.workloads)
    memberships = _memberships(registry)
    return {
        "workloads": [
            {
                **_workload(it, places, memberships.get(uid, []), state.policies.selecting(it)),
                **({"hostname": named[uid].name} if uid in named and not it.addresses else {}),
            }
            for uid, it in workloads.items()
        ],
        "services": [_service(it, places) for it in registry.services.values()],
        "policies": [policy_dump(*it) | {"hits": state.hits.get(str(it[0]), {})} for it in state.policies.all],
        "certificates": [_certificate(*it) for it in sorted(state.certificates.items(), key=lambda it: str(it[0]))],
        "workloadState": {it.pod.uid: _pod(it) for it in state.pods},
        "version": {"version": version.installed()},
    }


class _Places:
    """Spells addresses: NETWORK/IP, or NAMESPACE/HOSTNAME."""

    def __init__(self, registry: Registry, network: str) -> None:
        self._registry = registry
        self.network = network

    def ip(self, address: str) -> str:
        return f"{self.network}/{address}"

    def gateway(self, waypoint: GatewayAddress) -> Dumped:
        service = self._registry.services.get(waypoint.hostname)
        namespace = waypoint.namespace if service is None else service.namespace
        destination = f"{namespace}/{waypoint.hostname}" if waypoint.hostname else self.ip(waypoint.ip)
        return {"destination": destination, "hboneMtlsPort": waypoint.hbone_port}


def _key(service: Service) -> str:
    return f"{service.namespace}/{service.hostname}"


def _endpoints(service: Service) -> Iterator[ServiceEndpoint | NamedEndpoint]:
    yield from service.endpoints
    yield from service.names


def _memberships(registry: Registry) -> dict[str, list[str]]:
    """The services of each workload, by its uid."""
    found: dict[str, list[str]] = {}
    for service in registry.services.values():
        for endpoint in _endpoints(service):
            found.setdefault(endpoint.workload.uid, []).append(_key(service))
    return found


def _workload(it: Workload, places: _Places, services: list[str], policies: tuple[str, ...]) -> Dumped:
    region, zone, subzone, *_ = *it.locality.split("/"), "", "", ""
    found: Dumped = {
        "uid": it.uid,
        "name": it.name,
        "namespace": it.namespace,
        "workloadIps": list(it.addresses),
        "protocol": it.tunnel_protocol.value,
        "trustDomain": it.identity.trust_domain,
        "serviceAccount": it.identity.service_account,
        "workloadName": it.workload_name,
        "workloadType": it.workload_type,
        "canonicalName": it.canonical_name,
        "canonicalRevision": it.canonical_revision,
        "node": it.node,
        "status": _status(it.health),
        "clusterId": it.cluster_id,
        "capacity": it.capacity,
    }
    more: Dumped = {
        "network": it.network,
        "waypoint": places.gateway(it.waypoint) if it.waypoint is not None else None,
        "locality": {"region": region, "zone": zone, "subzone": subzone} if it.locality else None,
        "applicationTunnel": _application_tunnel(it.application_tunnel),
        "authorizationPolicies": list(policies),
        "services": services,
    }
    return found | {name: value for name, value in more.items() if value}


def _application_tunnel(it: ApplicationTunnel | None) -> Dumped | None:
    return {"protocol": "PROXY" if it.has_header else "NONE", "port": it.port or None} if it is not None else None


def _status(health: Health) -> str:
    return "Healthy" if health is Health.READY else "Unhealthy"


def _service(it: Service, places: _Places) -> Dumped:
    found: Dumped = {
        "name": it.name,
        "namespace": it.namespace,
        "hostname": it.hostname,
        "vips": [places.ip(address) for address in it.addresses],
        "ports": {str(port.port): _target(it, port.port) for port in it.ports},
        "endpoints": {endpoint.workload.uid: _endpoint(endpoint) for endpoint in _endpoints(it)},
    }
    more: Dumped = {
        "cidrVips": [{"network": places.network, "cidr": network} for network in it.networks],
        "subjectAltNames": list(it.subject_alt_names),
        "waypoint": places.gateway(it.waypoint) if it.waypoint is not None else None,
        "weightedWaypoints": [
            {"waypoint": places.gateway(share.waypoint), "weight": share.weight} for share in it.shares
        ],
        "loadBalancer": {
            "routingPreferences": [scope.value.capitalize() for scope in it.nearness.scopes],
            "mode": "Strict" if it.nearness.is_strict else "Failover",
        }
        if it.nearness.scopes
        else None,
        "ipFamilies": _families(it.addresses),
    }
    return found | {name: value for name, value in more.items() if value}


def _target(service: Service, port: int) -> int:
    """The port of the endpoints; 0 if it is not the same for all, like ztunnel's for a port with a name."""
    targets = {endpoint.ports[port] for endpoint in _endpoints(service) if port in endpoint.ports}
    return targets.pop() if len(targets) == 1 else 0


def _endpoint(it: ServiceEndpoint | NamedEndpoint) -> Dumped:
    health = it.health if isinstance(it, ServiceEndpoint) else it.workload.health
    ports = {str(port): target for port, target in it.ports.items()}
    return {"workloadUid": it.workload.uid, "port": ports, "status": _status(health)}


def _families(addresses: Iterable[str]) -> str:
    families = {"IPv6" if ":" in address else "IPv4" for address in addresses}
    return "Dual" if len(families) > 1 else "".join(families)


def _certificate(identity: Identity, its: Certificate | NoCertificate) -> Dumped:
    if isinstance(its, NoCertificate):
        state = "Initializing" if isinstance(its, CertificateAwaited) else f"Unavailable: {its.reason}"
        return {"identity": str(identity), "state": state, "certChain": [], "rootCerts": []}
    roots = x509.load_pem_x509_certificates(its.trust_bundle_pem)
    leaf, *others = x509.load_pem_x509_certificates(its.chain_pem)
    chain = [leaf, *(it for it in others if it not in roots)]  # some authorities end the chain with their root
    return {
        "identity": str(identity),
        "state": "Available",
        "certChain": list(map(_certificate_details, chain)),
        "rootCerts": list(map(_certificate_details, roots)),
    }


def _certificate_details(it: x509.Certificate) -> Dumped:
    return {
        "pem": base64.b64encode(it.public_bytes(Encoding.PEM)).decode(),
        "serialNumber": str(it.serial_number),
        "validFrom": _moment(it.not_valid_before_utc),
        "expirationTime": _moment(it.not_valid_after_utc),
    }


def _moment(it: datetime) -> str:
    return f"{it:%Y-%m-%dT%H:%M:%SZ}"


def _pod(it: PodState) -> Dumped:
    return {
        "state": "Up" if it.is_served else "Pending",
        "connections": {direction: list(_connections(it.flows, direction)) for direction in ("inbound", "outbound")},
        "info": {
            "name": it.pod.name,
            "namespace": it.pod.namespace,
            "trustDomain": it.pod.identity.trust_domain,
            "serviceAccount": it.pod.identity.service_account,
        },
    }


def _connections(flows: Iterable[Flow], direction: str) -> Iterator[Dumped]:
    """Yield a connection into the pod with the service that was called, one out of it with the called address."""
    for flow in flows:
        if flow.ends.direction != direction:
            continue
        called, actual = host_port(*flow.original_destination), host_port(*flow.destination_address)
        if direction == "inbound":
            called, actual = flow.ends.service.hostname if flow.ends.service is not None else "", called
        yield {
            "src": host_port(*flow.source_address),
            "originalDst": called or None,
            "actualDst": actual,
            "protocol": "HBONE" if flow.ends.is_mutual_tls else "TCP",
        }
