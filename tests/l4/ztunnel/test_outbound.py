"""The next hop of a captured connection; the cases are those that ztunnel's own tests prove."""

from collections import Counter
from dataclasses import replace

import pytest

from l4.discovery.registry import Registry
from l4.discovery.workload import GatewayAddress, NamedEndpoint, Nearness, Scope, WaypointShare, Workload
from l4.hbone.connect import Authority
from l4.ztunnel.outbound import Avoid, HboneHop, Hop, PlainHop, Refused, avoid_none, decide
from tests.kit.workloads import pod, registry, service

CLIENT = pod("client", "10.0.0.1")
SERVER = pod("server", "10.0.0.2")
PLAIN = pod("plain", "10.0.0.3", speaks_hbone=False)
WAYPOINT = pod("waypoint", "10.0.0.9")
WAYPOINT_SERVICE = service("waypoint", "10.1.0.9", ports={15008: 15008}, pods=[WAYPOINT])
BY_HOSTNAME = GatewayAddress(hostname=WAYPOINT_SERVICE.hostname, namespace="default", gateway="waypoint")
BY_VIP = GatewayAddress(ip="10.1.0.9", namespace="default", gateway="waypoint")
BY_POD = GatewayAddress(ip="10.0.0.9", namespace="default", gateway="waypoint")


def through(hop: Hop) -> tuple[tuple[str, int], str, Workload]:
    assert isinstance(hop, HboneHop)
    assert hop.identities == {hop.workload.identity}
    return hop.address, str(hop.authority), hop.workload


def test_an_unknown_destination_passes_as_it_is() -> None:
    hop = decide(registry(CLIENT), CLIENT, ("93.184.216.34", 443), 0)

    assert hop == PlainHop(("93.184.216.34", 443), None, None)


def test_a_service_entry_that_has_only_names_is_left_to_its_client() -> None:
    entry = replace(service("api", "240.240.0.1", ports={}, pods=[]), is_entry=True)

    hop = decide(registry(CLIENT, entry), CLIENT, ("240.240.0.1", 443), 0)

    assert hop == PlainHop(("240.240.0.1", 443), None, entry)


@pytest.mark.parametrize("node", ["here", "elsewhere"])
def test_a_workload_that_speaks_hbone_is_reached_by_it_on_whatever_node(node: str) -> None:
    server = pod("server", "10.0.0.2", node=node)

    hop = decide(registry(CLIENT, server), CLIENT, ("10.0.0.2", 8080), 0)

    assert through(hop) == (("10.0.0.2", 15008), "10.0.0.2:8080", server)


def test_a_workload_without_hbone_is_reached_in_plain_tcp() -> None:
    hop = decide(registry(CLIENT, PLAIN), CLIENT, ("10.0.0.3", 8080), 0)

    assert hop == PlainHop(("10.0.0.3", 8080), PLAIN, None)


def test_a_service_is_reached_at_the_target_port_of_its_endpoint() -> None:
    target = service("server", "10.1.0.2", ports={80: 8080}, pods=[SERVER])

    hop = decide(registry(CLIENT, target), CLIENT, ("10.1.0.2", 80), 0)

    assert through(hop) == (("10.0.0.2", 15008), "10.0.0.2:8080", SERVER)
    assert isinstance(hop, HboneHop)
    assert hop.service == target


def test_endpoints_are_chosen_by_capacity() -> None:
    large, small = pod("large", "10.0.0.4", capacity=3), pod("small", "10.0.0.5")
    known = registry(CLIENT, service("server", "10.1.0.2", ports={80: 8080}, pods=[large, small]))

    chosen = [through(decide(known, CLIENT, ("10.1.0.2", 80), quarter / 4))[2].name for quarter in range(4)]

    assert chosen == ["large", "large", "large", "small"]


def test_endpoints_that_are_unhealthy_or_weigh_nothing_are_never_chosen() -> None:
    sick, idle = pod("sick", "10.0.0.4", is_healthy=False), pod("idle", "10.0.0.5", capacity=0)
    known = registry(CLIENT, service("server", "10.1.0.2", ports={80: 8080}, pods=[sick, idle, SERVER]))

    chosen = {through(decide(known, CLIENT, ("10.1.0.2", 80), percent / 100))[2].name for percent in range(100)}

    assert chosen == {"server"}


@pytest.mark.parametrize(
    ("target", "port"),
    [
        pytest.param(service("server", "10.1.0.2", ports={80: 8080}), 80, id="without endpoints"),
        pytest.param(service("server", "10.1.0.2", ports={80: 8080}, pods=[SERVER]), 81, id="without this port"),
    ],
)
def test_a_service_with_nobody_to_answer_is_never_passed_through(target: object, port: int) -> None:
    known = registry(CLIENT, target)  # type: ignore[arg-type]

    hop = decide(known, CLIENT, ("10.1.0.2", port), 0)

    assert hop == Refused(f"no healthy upstream: 10.1.0.2:{port} (server.default.svc.cluster.local)")


@pytest.mark.parametrize("waypoint", [BY_HOSTNAME, BY_VIP, BY_POD], ids=["hostname", "VIP", "pod address"])
def test_a_service_with_a_waypoint_goes_there_under_its_own_address_and_port(waypoint: GatewayAddress) -> None:
    target = service("server", "10.1.0.2", ports={80: 8080}, pods=[SERVER], waypoint=waypoint)

    hop = decide(registry(CLIENT, target, WAYPOINT_SERVICE), CLIENT, ("10.1.0.2", 80), 0)

    assert through(hop) == (("10.0.0.9", 15008), "10.1.0.2:80", WAYPOINT)
    assert isinstance(hop, HboneHop)
    assert hop.service == target


def test_a_waypoint_is_reached_at_the_port_that_its_service_maps_to() -> None:
    mapped = service("waypoint", "10.1.0.9", ports={15008: 15009}, pods=[WAYPOINT])
    target = service("server", "10.1.0.2", ports={80: 8080}, waypoint=BY_HOSTNAME)

    hop = decide(registry(CLIENT, target, mapped), CLIENT, ("10.1.0.2", 80), 0)

    assert through(hop)[0] == ("10.0.0.9", 15009)


@pytest.mark.parametrize("waypoint", [BY_HOSTNAME, BY_VIP, BY_POD], ids=["hostname", "VIP", "pod address"])
def test_a_waypoint_that_nobody_serves_is_never_bypassed(waypoint: GatewayAddress) -> None:
    gone = pod("waypoint", "10.0.0.9", is_healthy=False)
    behind = service("waypoint", "10.1.0.9", ports={15008: 15008}, pods=[gone])
    target = service("server", "10.1.0.2", ports={80: 8080}, pods=[SERVER], waypoint=waypoint)

    hop = decide(registry(CLIENT, target, behind), CLIENT, ("10.1.0.2", 80), 0)

    assert isinstance(hop, Refused)
    assert hop.reason.startswith("unknown waypoint: ")


def test_a_workloads_own_address_goes_to_the_workloads_waypoint() -> None:
    server = pod("server", "10.0.0.2", waypoint=BY_HOSTNAME)

    hop = decide(registry(CLIENT, server, WAYPOINT_SERVICE), CLIENT, ("10.0.0.2", 8080), 0)

    assert through(hop) == (("10.0.0.9", 15008), "10.0.0.2:8080", WAYPOINT)


@pytest.mark.parametrize("waypoint", [BY_HOSTNAME, BY_VIP, BY_POD])
def test_a_waypoint_whose_connections_are_captured_reaches_its_own_workloads(waypoint: GatewayAddress) -> None:
    bound = replace(SERVER, waypoint=waypoint)
    known = registry(CLIENT, bound, WAYPOINT, WAYPOINT_SERVICE)

    assert through(decide(known, WAYPOINT, ("10.0.0.2", 8080), 0))[2] == bound
    assert through(decide(known, CLIENT, ("10.0.0.2", 8080), 0))[2] == WAYPOINT


def test_a_service_without_waypoint_does_not_use_that_of_its_endpoint() -> None:
    server = pod("server", "10.0.0.2", waypoint=BY_HOSTNAME)
    target = service("server", "10.1.0.2", ports={80: 8080}, pods=[server])

    hop = decide(registry(CLIENT, target, WAYPOINT_SERVICE), CLIENT, ("10.1.0.2", 80), 0)

    assert through(hop) == (("10.0.0.2", 15008), "10.0.0.2:8080", server)


def test_the_waypoint_of_the_source_is_not_asked() -> None:
    client = pod("client", "10.0.0.1", waypoint=BY_HOSTNAME)

    hop = decide(registry(client, SERVER, WAYPOINT_SERVICE), client, ("10.0.0.2", 8080), 0)

    assert through(hop)[0] == ("10.0.0.2", 15008)


def test_a_waypoint_of_one_family_takes_destinations_of_the_other() -> None:
    server = pod("server", "fd00::2", waypoint=BY_POD)

    hop = decide(registry(CLIENT, server, WAYPOINT), CLIENT, ("fd00::2", 8080), 0)

    assert through(hop) == (("10.0.0.9", 15008), "[fd00::2]:8080", WAYPOINT)


@pytest.mark.parametrize(
    ("dialled", "address"),
    [("10.0.0.2", "10.0.0.2"), ("fd00::2", "fd00::2"), ("10.1.0.2", "10.0.0.2"), ("fd01::2", "fd00::2")],
)
def test_the_address_that_was_dialled_or_its_family_is_kept(dialled: str, address: str) -> None:
    server = pod("server", "10.0.0.2", "fd00::2")
    target = service("server", "10.1.0.2", "fd01::2", ports={80: 80}, pods=[server])

    hop = decide(registry(CLIENT, target), CLIENT, (dialled, 80), 0)

    assert isinstance(hop, HboneHop)
    assert (hop.address, hop.authority) == ((address, 15008), Authority(address, 80))


def another_network() -> list[tuple[str, Registry]]:
    far = pod("far", "10.0.0.2", network="far")
    gateway = service("waypoint", "10.1.0.9", ports={15008: 15008}, pods=[far])
    return [
        ("10.0.0.2", registry(CLIENT, far)),
        ("10.1.0.2", registry(CLIENT, service("server", "10.1.0.2", ports={80: 80}, pods=[far]))),
        ("10.1.0.3", registry(CLIENT, gateway, service("s", "10.1.0.3", ports={80: 80}, waypoint=BY_HOSTNAME))),
    ]


@pytest.mark.parametrize(("ip", "known"), another_network(), ids=["workload", "service", "waypoint"])
def test_what_is_on_another_network_is_never_dialled_directly(ip: str, known: Registry) -> None:
    hop = decide(known, CLIENT, (ip, 80), 0)

    assert isinstance(hop, Refused)
    assert "on another network" in hop.reason


@pytest.mark.parametrize("port", [15001, 15006, 15008])
def test_a_call_to_the_proxys_own_ports_on_loopback_is_dropped(port: int) -> None:
    hop = decide(registry(CLIENT), CLIENT, ("127.0.0.1", port), 0)

    assert hop == Refused("attempted recursive call to ourselves")


def test_a_service_that_is_not_exported_to_the_source_is_passed_by() -> None:
    hidden = replace(service("server", "10.1.0.2", ports={80: 8080}, pods=[SERVER]), exported_to=frozenset({"other"}))

    assert decide(registry(CLIENT, hidden), CLIENT, ("10.1.0.2", 80), 0) == PlainHop(("10.1.0.2", 80), None, None)
    seen = replace(hidden, exported_to=frozenset({"default"}))
    assert isinstance(decide(registry(CLIENT, seen), CLIENT, ("10.1.0.2", 80), 0), HboneHop)


def test_an_endpoint_that_goes_away_and_still_serves_is_chosen_when_no_other_is_left() -> None:
    leaving = replace(pod("leaving", "10.0.0.4", is_healthy=False), is_leaving=True)

    def chosen(*pods: Workload) -> str:
        known = registry(CLIENT, service("server", "10.1.0.2", ports={80: 8080}, pods=pods))
        return through(decide(known, CLIENT, ("10.1.0.2", 80), 0))[2].name

    assert (chosen(leaving), chosen(leaving, SERVER)) == ("leaving", "server")


def test_endpoints_that_take_tunnels_and_are_names_are_not_passed_through_in_plain_tcp() -> None:
    named = NamedEndpoint("vm.example.com", {80: 8080}, 1, SERVER)
    entry = replace(service("server", "10.1.0.2", ports={80: 8080}), is_entry=True, names=(named,))

    hop = decide(registry(CLIENT, entry), CLIENT, ("10.1.0.2", 80), 0)

    assert isinstance(hop, Refused)
    assert "which only a waypoint resolves" in hop.reason


def test_any_address_of_a_services_networks_leads_to_its_waypoint() -> None:
    waypoint = pod("waypoint", "10.0.0.9")
    bound = GatewayAddress(ip="10.0.0.9", namespace="default", gateway="waypoint")
    entry = replace(service("all", ports={80: 80}, waypoint=bound), is_entry=True, networks=("10.7.0.0/16",))

    hop = decide(registry(CLIENT, waypoint, entry), CLIENT, ("10.7.1.2", 80), 0)

    assert through(hop) == (("10.0.0.9", 15008), "10.7.1.2:80", waypoint)


NEAR = {
    "subzone": replace(pod("a", "10.0.1.1"), locality="r/z/s"),
    "zone": replace(pod("b", "10.0.1.2"), locality="r/z/other"),
    "region": replace(pod("c", "10.0.1.3"), locality="r/other/s"),
    "nowhere": replace(pod("d", "10.0.1.4"), locality="other/z/s", node="elsewhere", cluster_id="other"),
}


def picked(nearness: Nearness, *names: str, avoided: str = "") -> str:
    """The endpoints that get connections of a client in r/z/s, in order."""
    target = replace(service("t", "10.1.0.2", ports={80: 8080}, pods=[NEAR[it] for it in names]), nearness=nearness)
    source = replace(CLIENT, locality="r/z/s")
    known = registry(source, target)
    addresses = {NEAR[it].addresses[0]: it for it in names}

    def avoid(address: tuple[str, int]) -> bool:
        return addresses[address[0]] == avoided

    hops = [decide(known, source, ("10.1.0.2", 80), roll / 20, avoid) for roll in range(20)]
    return " ".join(dict.fromkeys(addresses[it.address[0]] if isinstance(it, HboneHop) else "refused" for it in hops))


FAILOVER = Nearness((Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE))


@pytest.mark.parametrize(
    ("nearness", "names", "expected"),
    [
        (Nearness(), "subzone zone nowhere", "subzone zone nowhere"),
        (FAILOVER, "subzone zone region nowhere", "subzone"),
        (FAILOVER, "zone region nowhere", "zone"),
        (FAILOVER, "region nowhere", "region"),
        (FAILOVER, "nowhere", "nowhere"),
        (Nearness((Scope.NETWORK, Scope.REGION)), "subzone zone region nowhere", "subzone zone region"),
        (Nearness((Scope.NODE,), is_strict=True), "zone nowhere", "zone"),
        (Nearness((Scope.NODE,), is_strict=True), "nowhere", "refused"),
        (Nearness((Scope.CLUSTER,)), "zone nowhere", "zone"),
        (Nearness((Scope.REGION, Scope.ZONE), is_strict=True), "region nowhere", "refused"),
    ],
)
def test_a_service_may_prefer_near_endpoints(nearness: Nearness, names: str, expected: str) -> None:
    assert picked(nearness, *names.split()) == expected


def test_an_endpoint_to_avoid_is_used_only_where_nearness_is_a_must() -> None:
    assert picked(FAILOVER, "subzone", "zone", avoided="subzone") == "zone"
    strict = Nearness((Scope.REGION, Scope.ZONE, Scope.SUBZONE), is_strict=True)
    assert picked(strict, "subzone", "zone", avoided="subzone") == "subzone"


# -- canaries ----------------------------------------------------------------------------------------------------------

CANARIES = (pod("canary-1", "10.0.0.10"), pod("canary-2", "10.0.0.11"))
CANARY = GatewayAddress(hostname="canary.default.svc.cluster.local", namespace="default", gateway="canary")


def with_canary(weight: int, *pods: Workload, total: int = 100) -> Registry:
    canary = service("canary", "10.1.0.10", ports={15008: 15008}, pods=pods)
    shares = (WaypointShare(BY_HOSTNAME, total - weight), WaypointShare(CANARY, weight))
    target = replace(service("server", "10.1.0.2", ports={80: 8080}, waypoint=BY_HOSTNAME), shares=shares)
    return registry(CLIENT, target, WAYPOINT_SERVICE, canary)


def shared(known: Registry, avoid: Avoid = avoid_none) -> list[str]:
    hops = (decide(known, CLIENT, ("10.1.0.2", 80), permille / 1000, avoid) for permille in range(1000))
    return [through(hop)[2].name for hop in hops]


@pytest.mark.parametrize("weight", [0, 1, 10, 50, 100])
def test_a_canary_gets_its_share_of_connections_divided_among_its_pods(weight: int) -> None:
    found = Counter(shared(with_canary(weight, *CANARIES)))

    assert found == Counter({"waypoint": 1000 - weight * 10, "canary-1": weight * 5, "canary-2": weight * 5})


def test_without_any_weight_the_waypoint_gets_all() -> None:
    assert set(shared(with_canary(0, *CANARIES, total=0))) == {"waypoint"}


@pytest.mark.parametrize("pods", [[], [replace(CANARIES[0], is_healthy=False)]], ids=["no pod", "no ready pod"])
def test_the_waypoint_takes_the_share_of_a_canary_that_is_not_ready(pods: list[Workload]) -> None:
    assert set(shared(with_canary(100, *pods))) == {"waypoint"}


def test_a_canary_whose_pods_are_unreachable_is_replaced_by_the_waypoint_if_that_is_reachable() -> None:
    known, all_of_it = with_canary(100, *CANARIES), {("10.0.0.10", 15008), ("10.0.0.11", 15008)}

    assert set(shared(known, lambda it: it == ("10.0.0.10", 15008))) == {"canary-2"}
    assert set(shared(known, all_of_it.__contains__)) == {"waypoint"}
