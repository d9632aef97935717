"""`istio.workload.Address` → workloads and services, and everything that is refused."""

import ipaddress
import random
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import UInt32Value

from l4._proto import workload_pb2 as wire
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
)
from l4.xds.addresses import KnownService, KnownWorkload, convert, name_of
from l4.xds.resource import Refused
from policies.attributes import Identity

MESH = Mesh()
NETWORK = Mesh(network="here")


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def workload(mesh: Mesh = MESH, **fields: Any) -> KnownWorkload:
    its = wire.Workload(**{"uid": "Kubernetes//Pod/ns/a", "name": "a", "namespace": "ns", **fields})
    found = convert(wire.Address(workload=its).SerializeToString(), mesh)
    assert isinstance(found, KnownWorkload)
    return found


def service(mesh: Mesh = MESH, **fields: Any) -> KnownService:
    its = wire.Service(**{"name": "s", "namespace": "ns", "hostname": "s.ns.svc.cluster.local", **fields})
    found = convert(wire.Address(service=its).SerializeToString(), mesh)
    assert isinstance(found, KnownService)
    return found


def test_a_workload_has_all_that_was_sent() -> None:
    it = workload(
        addresses=[ip("10.0.0.1"), ip("fd00::1"), ip("::ffff:10.0.0.1")],
        tunnel_protocol=wire.HBONE,
        trust_domain="td",
        service_account="sa",
        waypoint=wire.GatewayAddress(hostname=wire.NamespacedHostname(namespace="w", hostname="wp.w.svc.x")),
        node="n",
        canonical_name="app",
        canonical_revision="v2",
        workload_type=wire.JOB,
        workload_name="job",
        authorization_policies=["ns/p"],
        status=wire.UNHEALTHY,
        cluster_id="c",
        services={"ns/s.x": wire.PortList(ports=[wire.Port(service_port=80, target_port=8080)])},
        locality=wire.Locality(region="r", zone="z"),
        capacity=UInt32Value(value=0),
    )

    its = it.workload
    assert its.addresses == ("10.0.0.1", "fd00::1")
    assert its.identity == Identity("td", "ns", "sa")
    assert its.tunnel_protocol is TunnelProtocol.HBONE
    assert its.is_redirected
    assert its.waypoint == GatewayAddress("wp.w.svc.x", "w", "wp")
    assert (its.node, its.workload_name, its.workload_type, its.cluster_id) == ("n", "job", "job", "c")
    assert (its.canonical_name, its.canonical_revision, its.locality) == ("app", "v2", "r/z")
    assert its.authorization_policies == ("ns/p",)
    assert (its.is_healthy, its.capacity) == (False, 0)
    assert it.services == {"ns/s.x": {80: 8080}}
    assert (it.is_nameless, it.unsupported) == (False, ())
    assert name_of(it) == "Kubernetes//Pod/ns/a"


def test_what_is_not_sent_has_the_defaults_of_the_protocol() -> None:
    its = workload().workload

    assert its.identity == Identity("cluster.local", "ns", "default")
    assert (its.cluster_id, its.capacity, its.is_healthy, its.waypoint) == ("Kubernetes", 1, True, None)
    assert (its.tunnel_protocol, its.is_redirected) == (TunnelProtocol.NONE, False)
    assert (its.locality, its.workload_type, its.canonical_revision) == ("", "deployment", "latest")


def test_an_application_that_speaks_hbone_itself_is_not_served_here() -> None:
    its = workload(tunnel_protocol=wire.HBONE, native_tunnel=True).workload

    assert its.tunnel_identity is not None
    assert not its.is_redirected


@pytest.mark.parametrize(
    ("fields", "is_nameless"),
    [({"network_mode": wire.HOST_NETWORK}, True), ({"network": "there"}, True), ({"network": "here"}, False)],
)
def test_an_address_that_others_have_too_names_nobody(fields: dict[str, Any], is_nameless: bool) -> None:
    assert workload(NETWORK, **{"network": "here", **fields}).is_nameless is is_nameless


def test_a_service_has_all_that_was_sent() -> None:
    it = service(
        NETWORK,
        addresses=[
            wire.NetworkAddress(network="here", address=ip("10.96.0.1")),
            wire.NetworkAddress(network="here", address=ip("10.97.1.1"), length=16),
            wire.NetworkAddress(network="here", address=ip("fd00::9"), length=128),
            wire.NetworkAddress(network="there", address=ip("10.96.0.2")),
        ],
        ports=[
            wire.Port(service_port=80, target_port=8080, app_protocol=wire.HTTP11),
            wire.Port(service_port=443, app_protocol=wire.TLS),
        ],
        subject_alt_names=["spiffe://td/ns/x/sa/y"],
        waypoint=wire.GatewayAddress(
            address=wire.NetworkAddress(network="here", address=ip("10.96.0.9")), hbone_mtls_port=15009
        ),
        ip_families=wire.IPV6_ONLY,
        canonical=True,
        visibility=wire.NAMESPACE,
        load_balancing=wire.LoadBalancing(health_policy=wire.LoadBalancing.ALLOW_ALL),
    )

    its = it.service
    assert its.addresses == ("10.96.0.1", "fd00::9")
    assert its.networks == ("10.97.0.0/16",)
    assert its.ports == (ServicePort(80, "", AppProtocol.HTTP), ServicePort(443, "", AppProtocol.TLS))
    assert it.ports == {80: 8080, 443: 0}
    assert its.subject_alt_names == ("spiffe://td/ns/x/sa/y",)
    assert its.waypoint == GatewayAddress(ip="10.96.0.9", hbone_port=15009)
    assert its.exported_to == {"ns"}
    assert (it.ip_version, it.takes_unhealthy, it.is_canonical, it.passes_through) == (6, True, True, False)
    assert not its.is_entry
    assert name_of(it) == "ns/s.ns.svc.cluster.local"


def test_a_service_of_another_host_is_an_entry() -> None:
    assert service(hostname="Example.com").service.is_entry
    assert service(hostname="Example.com").service.hostname == "example.com"


def test_a_visibility_that_is_not_known_is_public() -> None:
    assert service(visibility=7).service.exported_to is None


@pytest.mark.parametrize(
    ("mode", "scopes", "nearness", "distribution"),
    [
        (wire.LoadBalancing.UNSPECIFIED_MODE, [1], Nearness(), ""),
        (wire.LoadBalancing.STRICT, [4], Nearness((Scope.NODE,), is_strict=True), ""),
        (wire.LoadBalancing.FAILOVER, [6, 1, 2], Nearness((Scope.NETWORK, Scope.REGION, Scope.ZONE)), "PreferSameZone"),
        (
            wire.LoadBalancing.FAILOVER,
            [6, 1, 2, 3, 4],
            Nearness((Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE)),
            "PreferSameNode",
        ),
        (wire.LoadBalancing.FAILOVER, [5], Nearness((Scope.CLUSTER,)), ""),
    ],
)
def test_balancing(mode: Any, scopes: list[int], nearness: Nearness, distribution: str) -> None:
    its = service(load_balancing=wire.LoadBalancing(mode=mode, routing_preference=scopes)).service

    assert (its.nearness, its.traffic_distribution) == (nearness, distribution)


def test_a_service_may_pass_through() -> None:
    assert service(load_balancing=wire.LoadBalancing(mode=wire.LoadBalancing.PASSTHROUGH)).passes_through


THERE = wire.GatewayAddress(address=wire.NetworkAddress(network="there", address=ip("10.96.0.9")))


@pytest.mark.parametrize(
    ("known", "field"),
    [
        (workload(waypoint=THERE), "waypoint"),
        (service(waypoint=THERE), "waypoint"),
        (
            service(weighted_waypoints=[wire.WeightedWaypoint(destination=THERE, weight=1)]),
            "weighted_waypoints",
        ),
    ],
)
def test_what_is_not_carried_out_is_noted(known: KnownWorkload | KnownService, field: str) -> None:
    assert [place for place, _ in known.unsupported] == [field]


def test_a_pod_may_have_a_proxy_of_its_own() -> None:
    def tunnel(**fields: Any) -> ApplicationTunnel | None:
        return workload(application_tunnel=wire.ApplicationTunnel(**fields)).workload.application_tunnel

    assert tunnel() == ApplicationTunnel()
    assert tunnel(protocol=wire.ApplicationTunnel.PROXY, port=15088) == ApplicationTunnel(15088, has_header=True)
    assert workload().workload.application_tunnel is None


def test_a_waypoint_on_another_network_is_not_bypassed() -> None:
    waypoint = service(waypoint=THERE).service.waypoint

    assert waypoint is not None
    assert (waypoint.hostname, waypoint.ip) == ("there/10.96.0.9", "")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"uid": ""}, "uid: it is empty"),
        ({"addresses": [b"abc"]}, "addresses: an address has 3 bytes"),
        ({"addresses": [b""]}, "addresses: an address has 0 bytes"),
        ({"tunnel_protocol": wire.LEGACY_ISTIO_MTLS}, "tunnel_protocol: 2 is not a value"),
        ({"tunnel_protocol": 9}, "tunnel_protocol: 9 is not a value"),
        ({"workload_type": 9}, "workload_type: 9"),
        ({"status": 9}, "status: 9"),
        ({"network_mode": 9}, "network_mode: 9"),
        ({"namespace": "a/b"}, "make no identity"),
        ({"service_account": "x y"}, "make no identity"),
        ({"waypoint": wire.GatewayAddress(hbone_mtls_port=1)}, "waypoint: it has neither a hostname nor an address"),
        ({"waypoint": wire.GatewayAddress(hbone_mtls_port=1 << 16)}, "waypoint.hbone_mtls_port: 65536 is no port"),
        ({"services": {"s.x": wire.PortList()}}, "services: the key 's.x'"),
        ({"services": {"ns/a/b": wire.PortList()}}, "services: the key 'ns/a/b'"),
        ({"services": {"ns/s": wire.PortList(ports=[wire.Port()])}}, "services[ns/s]: 0 to 0 are no ports"),
        ({"application_tunnel": wire.ApplicationTunnel(protocol=5)}, "application_tunnel.protocol: 5"),
        ({"application_tunnel": wire.ApplicationTunnel(port=65536)}, "application_tunnel.port: 65536 is no port"),
    ],
)
def test_a_workload_that_cannot_be_understood_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as raised:
        workload(**fields)

    assert str(raised.value).startswith(sentence) or sentence in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hostname": ""}, "namespace or hostname: it is empty"),
        ({"namespace": ""}, "namespace or hostname: it is empty"),
        ({"addresses": [wire.NetworkAddress(address=b"x")]}, "addresses: an address has 1 bytes"),
        ({"addresses": [wire.NetworkAddress(address=b"abcd", length=33)]}, "addresses: 97.98.99.100/33 is no network"),
        ({"ports": [wire.Port(service_port=1 << 16)]}, "ports: 65536 to 0 are no ports"),
        ({"ports": [wire.Port(service_port=1, app_protocol=9)]}, "app_protocol: 9"),
        ({"load_balancing": wire.LoadBalancing(mode=9)}, "load_balancing.mode: 9"),
        ({"load_balancing": wire.LoadBalancing(health_policy=9)}, "load_balancing.health_policy: 9"),
        ({"load_balancing": wire.LoadBalancing(routing_preference=[0])}, "load_balancing.routing_preference: 0"),
        ({"ip_families": 9}, "ip_families: 9"),
    ],
)
def test_a_service_that_cannot_be_understood_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as raised:
        service(**fields)

    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize("content", [b"", wire.Address().SerializeToString(), b"\xff\xff", b"\x0a\x05abc"])
def test_an_address_of_no_kind_is_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        convert(content, MESH)


def test_garbage_is_refused_or_understood_and_raises_nothing_else() -> None:
    chance = random.Random(15)
    whole = wire.Address(
        workload=wire.Workload(
            uid="u", name="a", namespace="ns", addresses=[ip("10.0.0.1")], services={"ns/h": wire.PortList()}
        )
    ).SerializeToString()
    for _ in range(3000):
        bytes_ = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            bytes_[chance.randrange(len(bytes_))] = chance.randrange(256)
        with suppress(Refused):
            convert(bytes(bytes_), MESH)


def test_a_service_has_its_waypoint_and_its_canary_with_their_weights() -> None:
    first, canary = (
        wire.GatewayAddress(hostname=wire.NamespacedHostname(namespace="ns", hostname=f"{it}.ns.svc.x"))
        for it in ("w", "c")
    )
    weighted = [
        wire.WeightedWaypoint(destination=first, weight=90),
        wire.WeightedWaypoint(destination=canary, weight=10),
    ]

    it = service(waypoint=first, weighted_waypoints=weighted)

    its = [GatewayAddress(f"{name}.ns.svc.x", "ns", name) for name in ("w", "c")]
    assert it.service.shares == (WaypointShare(its[0], 90), WaypointShare(its[1], 10))
    assert it.service.waypoints == tuple(its)
    assert it.unsupported == ()
