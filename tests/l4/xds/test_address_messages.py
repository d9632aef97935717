"""Workloads and services as messages, and back."""

from dataclasses import replace

import pytest

from l4._proto.workload_pb2 import Address
from l4.discovery.mesh import Mesh
from l4.discovery.workload import (
    ApplicationTunnel,
    AppProtocol,
    GatewayAddress,
    Nearness,
    Scope,
    ServicePort,
    TunnelProtocol,
    WaypointShare,
    Workload,
)
from l4.xds.address_messages import About, key_of, service_message, workload_message
from l4.xds.addresses import KnownService, KnownWorkload, convert
from tests.kit.workloads import pod, service

MESH = Mesh(network="here")


def sent(it: Workload, about: About) -> KnownWorkload:
    content = Address(workload=workload_message(it, about, "here"))
    found = convert(content.SerializeToString(), MESH)
    assert isinstance(found, KnownWorkload)
    return found


@pytest.mark.parametrize(
    "it",
    [
        pod("a", "10.0.0.1", "fd00::1", network="here"),
        replace(pod("a", network="here"), is_healthy=False, canonical_revision="v2", cluster_id="c"),
        replace(pod("a", "10.0.0.1", network="here", capacity=0), locality="r/z/s", workload_type="job"),
        replace(pod("a", "10.0.0.1", network="here", capacity=7), locality="r", is_redirected=False),
        replace(pod("a", "10.0.0.1", network="here", speaks_hbone=False), tunnel_protocol=TunnelProtocol.NONE),
        pod("a", "10.0.0.1", network="here", waypoint=GatewayAddress("w.ns.svc", "ns", "w", hbone_port=15009)),
        pod("a", "10.0.0.1", network="here", waypoint=GatewayAddress(ip="10.1.0.1")),
        replace(pod("a", "10.0.0.1", network="here"), application_tunnel=ApplicationTunnel(15088, has_header=True)),
        replace(pod("a", "10.0.0.1", network="here"), application_tunnel=ApplicationTunnel()),
    ],
)
def test_a_workload_comes_back(it: Workload) -> None:
    services = {"ns/s.x": {80: 8080, 443: 8443}, "ns/t.x": {}}

    found = sent(it, About(services, "h.example.com", ("ns/p", "ns/q")))

    assert found == KnownWorkload(replace(it, authorization_policies=("ns/p", "ns/q")), services, "h.example.com")


def test_addresses_that_lead_elsewhere_are_those_of_a_node() -> None:
    assert sent(pod("a", "10.0.0.1", network="here"), About(is_nameless=True)).is_nameless


def test_a_service_comes_back() -> None:
    it = replace(
        service("s", "10.1.0.1", "fd00::1", ports={80: 8080}),
        ports=tuple(ServicePort(80 + index, "", protocol) for index, protocol in enumerate(AppProtocol)),
        networks=("10.2.0.0/16",),
        subject_alt_names=("spiffe://a",),
        exported_to=frozenset({"default"}),
        waypoint=GatewayAddress("w.default.svc", "default", "w"),
        shares=(
            WaypointShare(GatewayAddress("w.default.svc", "default", "w"), 90),
            WaypointShare(GatewayAddress(ip="10.1.0.7"), 10),
        ),
        nearness=Nearness((Scope.NODE, Scope.CLUSTER), is_strict=True),
    )

    content = Address(service=service_message(it, it.addresses, "here", takes_unhealthy=True))
    found = convert(content.SerializeToString(), MESH)

    assert isinstance(found, KnownService)
    ports = tuple(
        replace(port, app_protocol=AppProtocol.HTTP) if port.app_protocol is AppProtocol.GRPC_WEB else port
        for port in it.ports
    )
    assert found.service == replace(it, ports=ports)
    assert found.takes_unhealthy
    assert found.is_canonical
    assert key_of(it) == "default/s.default.svc.cluster.local"
