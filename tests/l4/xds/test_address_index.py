"""The index of what a control plane has sent: whatever the order of arrival, it is as if all had come at once."""

import ipaddress
import random
from dataclasses import fields
from typing import Any

import pytest

from l4._proto import workload_pb2 as wire
from l4.config.codes import DocumentCode
from l4.discovery.codes import DiscoveryCode
from l4.discovery.index import Update
from l4.discovery.mesh import Mesh
from l4.discovery.registry import Registry
from l4.discovery.workload import Health
from l4.xds.address_index import AddressIndex
from l4.xds.addresses import Known, convert, name_of

MESH = Mesh()
ECHO = "ns/echo.ns.svc.cluster.local"
HOST = "echo.ns.svc.cluster.local"


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def known(address: wire.Address, mesh: Mesh = MESH) -> tuple[str, Known]:
    found = convert(address.SerializeToString(), mesh)
    return name_of(found), found


def pod(name: str, *ips: str, of: dict[str, dict[int, int]] | None = None, **more: Any) -> tuple[str, Known]:
    services = {
        key: wire.PortList(ports=[wire.Port(service_port=port, target_port=to) for port, to in ports.items()])
        for key, ports in (of or {}).items()
    }
    its = wire.Workload(
        uid=f"c//Pod/ns/{name}", name=name, namespace="ns", addresses=map(ip, ips), services=services, **more
    )
    return known(wire.Address(workload=its))


def service(name: str = "echo", *vips: str, ports: dict[int, int] | None = None, **more: Any) -> tuple[str, Known]:
    its = {
        "name": name,
        "namespace": "ns",
        "hostname": f"{name}.ns.svc.cluster.local",
        "addresses": [wire.NetworkAddress(address=ip(vip)) for vip in vips],
        "ports": [wire.Port(service_port=port, target_port=to) for port, to in (ports or {80: 8080}).items()],
        **more,
    }
    return known(wire.Address(service=wire.Service(**its)))


def index(*resources: tuple[str, Known]) -> AddressIndex:
    it = AddressIndex(MESH)
    assert it.take(dict(resources), ()) is None
    return it


def follow(it: AddressIndex, *resources: tuple[str, Known], gone: tuple[str, ...] = ()) -> Update:
    update = it.take(dict(resources), gone)
    assert update is not None
    assert update.registry is it.registry
    return update


def endpoints(it: AddressIndex, host: str = HOST) -> dict[str, dict[int, int]]:
    return {end.workload.name: dict(end.ports) for end in it.registry.services[host].endpoints}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_workload_may_come_before_its_service(order: tuple[int, int]) -> None:
    both = service(), pod("a", "10.0.0.1", of={ECHO: {80: 9090}})
    it = index()

    for number in order:
        follow(it, both[number])

    assert endpoints(it) == {"a": {80: 9090}}


@pytest.mark.parametrize(
    ("own", "ports", "more", "expected"),
    [
        ({80: 9090}, {80: 8080}, {}, {80: 9090}),
        ({}, {80: 8080}, {}, {80: 8080}),
        ({80: 9090}, {80: 0}, {}, {80: 9090}),
        ({}, {80: 0}, {}, {}),
        ({}, {80: 0}, {"application_tunnel": wire.ApplicationTunnel(port=15088)}, {80: 80}),
        ({}, {80: 0}, {"application_tunnel": wire.ApplicationTunnel()}, {}),
        ({81: 1}, {80: 8080}, {}, {80: 8080}),
    ],
)
def test_ports(own: dict[int, int], ports: dict[int, int], more: dict[str, Any], expected: dict[int, int]) -> None:
    it = index(service(ports=ports), pod("a", "10.0.0.1", of={ECHO: own}, **more))

    assert endpoints(it) == {"a": expected}


def test_endpoints_of_one_address_family() -> None:
    pods = pod("four", "10.0.0.1", of={ECHO: {}}), pod("six", "fd00::1", of={ECHO: {}})

    assert endpoints(index(service(ip_families=wire.IPV4_ONLY), *pods)) == {"four": {80: 8080}}
    assert endpoints(index(service(ip_families=wire.IPV6_ONLY), *pods)) == {"six": {80: 8080}}
    assert len(endpoints(index(service(ip_families=wire.DUAL), *pods))) == 2


def test_a_service_may_take_endpoints_that_are_not_healthy() -> None:
    sick = pod("a", "10.0.0.1", of={ECHO: {}}, status=wire.UNHEALTHY)
    all_ = wire.LoadBalancing(health_policy=wire.LoadBalancing.ALLOW_ALL)

    (strict,) = index(service(), sick).registry.services[HOST].endpoints
    (lenient,) = index(service(load_balancing=all_), sick).registry.services[HOST].endpoints

    assert (strict.health, lenient.health) == (Health.NOT_READY, Health.READY)


def test_a_service_that_passes_through_has_no_endpoints() -> None:
    through = wire.LoadBalancing(mode=wire.LoadBalancing.PASSTHROUGH)

    assert endpoints(index(service(load_balancing=through), pod("a", "10.0.0.1", of={ECHO: {}}))) == {}


def test_a_workload_with_a_name_only_is_an_endpoint_with_a_name() -> None:
    it = index(service(), pod("a", of={ECHO: {}}, hostname="Example.com"))

    (named,) = it.registry.services[HOST].names
    assert (named.name, named.ports) == ("example.com", {80: 8080})
    assert endpoints(it) == {}


def test_workloads_on_other_networks_get_nothing_and_that_is_told_once_a_network() -> None:
    it = index(service(), *(pod(name, "10.0.0.1", of={ECHO: {}}, network="there") for name in "ab"))

    assert endpoints(it) == {}
    assert it.registry.workload_at("10.0.0.1") is None
    (problem,) = it.registry.problems
    assert (problem.subject, problem.code) == ("Network there", DocumentCode.NOT_CARRIED_OUT)

    follow(it, gone=("c//Pod/ns/a",))
    assert it.registry.problems == (problem,)
    follow(it, gone=("c//Pod/ns/b",))
    assert it.registry.problems == ()


def test_what_is_not_carried_out_is_told_while_it_is_there() -> None:
    it = index()
    there = wire.NetworkAddress(network="there", address=ip("10.96.0.9"))
    follow(it, pod("a", "10.0.0.1", waypoint=wire.GatewayAddress(address=there)))

    (problem,) = it.registry.problems
    assert (problem.subject, problem.field) == ("Workload c//Pod/ns/a", "waypoint")

    follow(it, pod("a", "10.0.0.1"))
    assert it.registry.problems == ()


def test_an_update_has_what_changed_and_nothing_else() -> None:
    it = index(service(), service("other"), pod("a", "10.0.0.1", of={ECHO: {}}), pod("b", "10.0.0.2"))
    others = it.registry.services["other.ns.svc.cluster.local"], it.registry.workload_at("10.0.0.2")

    update = follow(it, pod("a", "10.0.0.3", of={ECHO: {}}))

    assert [(moved.before, moved.after) for moved in update.workloads] == [
        (update.workloads[0].before, it.registry.workload_at("10.0.0.3"))
    ]
    assert [moved.after for moved in update.services] == [it.registry.services[HOST]]
    assert update.addresses == {"10.0.0.1", "10.0.0.3"}
    assert it.registry.workload_at("10.0.0.1") is None
    assert others == (it.registry.services["other.ns.svc.cluster.local"], it.registry.workload_at("10.0.0.2"))


def test_a_resource_that_comes_again_unchanged_is_no_change() -> None:
    it = index(service(), pod("a", "10.0.0.1", of={ECHO: {}}))
    before = it.registry

    update = follow(it, service(), pod("a", "10.0.0.1", of={ECHO: {}}), gone=("unknown",))

    assert (update.workloads, update.services, update.addresses) == ((), (), frozenset())
    assert it.registry is before


def test_a_workload_that_only_leaves_a_service_stays_the_same_object() -> None:
    it = index(service(), pod("a", "10.0.0.1", of={ECHO: {}}))
    before = it.registry.workload_at("10.0.0.1")

    update = follow(it, pod("a", "10.0.0.1"))

    assert it.registry.workload_at("10.0.0.1") is before
    assert update.workloads == ()
    assert endpoints(it) == {}


def test_of_two_services_with_one_host_the_canonical_one_counts_and_the_other_is_told() -> None:
    shared = {"name": "x", "hostname": "x.example.com"}
    plain = service(**shared, namespace="a")
    canonical = service(**shared, namespace="b", canonical=True)
    it = index(plain, canonical)

    assert it.registry.services["x.example.com"].namespace == "b"
    (problem,) = it.registry.problems
    assert (problem.subject, problem.code) == ("Service a/x.example.com", DiscoveryCode.HOST_TAKEN)
    assert problem.sentence.startswith("b/x.example.com comes first")

    assert it.take({}, ("b/x.example.com",)) is None
    assert it.registry.services["x.example.com"].namespace == "a"
    assert it.registry.problems == ()


def test_an_endpoint_of_a_hidden_service_does_not_bring_it_forth() -> None:
    shared = {"name": "x", "hostname": "x.example.com"}
    it = index(service(**shared, namespace="a"), service(**shared, namespace="b", canonical=True))

    it.take(dict([pod("a", "10.0.0.1", of={"a/x.example.com": {}})]), ())

    assert it.registry.services["x.example.com"].namespace == "b"


def test_networks_of_services() -> None:
    it = index(service(addresses=[wire.NetworkAddress(address=ip("10.1.0.0"), length=16)]))

    assert it.registry.service_at("10.1.2.3") is it.registry.services[HOST]
    it.take({}, (ECHO,))
    assert it.registry.service_at("10.1.2.3") is None


def test_after_an_exception_everything_is_indexed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    it = index(service(), pod("a", "10.0.0.1", of={ECHO: {}}))
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "updated", None)
        with pytest.raises(TypeError):
            it.take(dict([pod("b", "10.0.0.2", of={ECHO: {}})]), ())

    assert it.take({}, ()) is None
    assert sorted(endpoints(it)) == ["a", "b"]


CANARY = wire.GatewayAddress(hostname=wire.NamespacedHostname(namespace="ns", hostname="canary.ns.svc.cluster.local"))


def random_resource(chance: random.Random) -> tuple[str, Known]:
    keys = [f"{ns}/{name}.{end}" for ns in ("a", "b") for name, end in (("s", f"{ns}.svc.cluster.local"), ("e", "com"))]
    if chance.random() < 0.6:
        return pod(
            chance.choice("abcdef"),
            *chance.sample(["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"], chance.randrange(3)),
            of={key: {80: chance.choice([0, 9090])} for key in chance.sample(keys, chance.randrange(3))},
            status=chance.choice([wire.HEALTHY, wire.UNHEALTHY]),
            tunnel_protocol=chance.choice([wire.NONE, wire.HBONE]),
            network=chance.choice(["", "", "", "there"]),
            network_mode=chance.choice([wire.STANDARD, wire.STANDARD, wire.HOST_NETWORK]),
            authorization_policies=chance.sample(["ns/p", "ns/q"], chance.randrange(2)),
        )
    namespace, _, host = chance.choice(keys).partition("/")
    networks = [wire.NetworkAddress(address=ip("10.9.0.0"), length=16)] if chance.random() < 0.1 else []
    vips = chance.sample(["10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4"], chance.choice([0, 1, 1, 2]))
    return service(
        host.partition(".")[0],
        namespace=namespace,
        hostname=host,
        addresses=[*(wire.NetworkAddress(address=ip(vip)) for vip in vips), *networks],
        canonical=chance.random() < 0.3,
        ip_families=chance.choice([wire.AUTOMATIC, wire.IPV4_ONLY]),
        weighted_waypoints=[wire.WeightedWaypoint(destination=CANARY, weight=1)] if chance.random() < 0.1 else [],
    )


@pytest.mark.parametrize("seed", range(12))
def test_random_changes_give_what_all_at_once_would_give(seed: int) -> None:
    chance = random.Random(seed)
    it, all_ = index(), {}
    followed = 0
    for _ in range(150):
        changed = dict(random_resource(chance) for _ in range(chance.choice([1, 1, 1, 3])))
        gone = {name for name in all_ if chance.random() < 0.05} - changed.keys()
        all_ = {name: known for name, known in (all_ | changed).items() if name not in gone}
        before = it.registry

        update = it.take(changed, gone)

        fresh = AddressIndex(MESH)
        fresh.take(all_, ())
        for field in fields(Registry):
            if field.compare:
                assert getattr(it.registry, field.name) == getattr(fresh.registry, field.name), field.name
        assert list(it.registry.workloads) == list(fresh.registry.workloads)
        if update is not None:
            followed += 1
            for moved in update.workloads:
                uid = (moved.before or moved.after).uid
                assert (before.workloads.get(uid), it.registry.workloads.get(uid)) == (moved.before, moved.after)
            hosts = {(moved.before or moved.after).hostname for moved in update.services}
            others = before.services.keys() | it.registry.services.keys()
            assert all(before.services.get(host) == it.registry.services.get(host) for host in others - hosts)
    assert followed > 20
