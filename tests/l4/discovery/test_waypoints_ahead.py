"""Which waypoints stand ahead of workloads, change by change."""

from dataclasses import replace

from l4.discovery.index import Update
from l4.discovery.registry import Moved
from l4.discovery.waypoints_ahead import WaypointsAhead, waypoints_ahead
from l4.discovery.workload import GatewayAddress, WaypointShare, Workload
from tests.kit.workloads import pod, registry, service

BOUND = GatewayAddress(hostname="waypoint.default.svc.cluster.local", namespace="default", gateway="waypoint")
BY_IP = GatewayAddress(ip="10.0.0.8", namespace="default", gateway="by-ip")
SERVER, FAR, PROXY = pod("server", "10.0.0.2"), pod("far", "10.0.0.3", node="elsewhere"), pod("proxy", "10.0.0.9")
WAYPOINT = service("waypoint", "10.1.0.9", ports={15008: 15008}, pods=[PROXY])
APP = service("app", "10.1.0.1", ports={80: 80}, pods=[SERVER, FAR], waypoint=BOUND)


def is_here(workload: Workload) -> bool:
    return workload.node == "here"


def ahead(it: WaypointsAhead, workload: Workload = SERVER) -> list[tuple[str, list[str]]]:
    return [(waypoint.gateway, sorted(its.service_account for its in found)) for waypoint, found in it.of(workload)]


def test_the_waypoints_of_a_workload_are_its_own_and_those_of_its_services() -> None:
    own = replace(SERVER, waypoint=BY_IP)
    app, by_ip = replace(APP, endpoints=service("app", ports={80: 80}, pods=[own]).endpoints), pod("by-ip", "10.0.0.8")

    it = waypoints_ahead(registry(own, by_ip, app, WAYPOINT))

    assert ahead(it, own) == [("by-ip", ["by-ip"]), ("waypoint", ["proxy"])]
    assert ahead(it, PROXY) == []


def test_only_workloads_that_are_asked_about_are_remembered() -> None:
    it = waypoints_ahead(registry(APP, WAYPOINT), is_here)

    assert it.by_uid.keys() == {SERVER.uid}


def test_what_concerns_nobody_here_gives_the_same_object() -> None:
    it = waypoints_ahead(registry(APP, WAYPOINT), is_here)
    without_far = replace(APP, endpoints=APP.endpoints[:1])
    known = registry(without_far, WAYPOINT)

    assert it.follow(Update(known, (Moved(FAR, None),), (Moved(APP, without_far),))) is it


def test_a_service_that_loses_its_waypoint_or_another_identity_behind_it_are_seen() -> None:
    it = waypoints_ahead(registry(APP, WAYPOINT))
    unbound, other = (
        replace(APP, waypoint=None),
        replace(PROXY, identity=replace(PROXY.identity, service_account="new")),
    )
    renewed = service("waypoint", "10.1.0.9", ports={15008: 15008}, pods=[other])

    without = it.follow(Update(registry(unbound, WAYPOINT), (), (Moved(APP, unbound),)))
    after = it.follow(Update(registry(APP, renewed), (Moved(PROXY, other),), (Moved(WAYPOINT, renewed),)))

    assert ahead(without) == []
    assert ahead(after) == [("waypoint", ["new"])]
    assert ahead(it) == [("waypoint", ["proxy"])]


def test_a_waypoint_that_comes_after_its_service_is_found() -> None:
    it = waypoints_ahead(registry(APP))

    after = it.follow(Update(registry(APP, WAYPOINT), (Moved(None, PROXY),), (Moved(None, WAYPOINT),)))

    assert ahead(it) == [("waypoint", [])]
    assert ahead(after) == [("waypoint", ["proxy"])]


def test_a_canary_stands_ahead_too_from_when_it_is_named() -> None:
    canary = GatewayAddress(ip="10.0.0.8", namespace="default", gateway="canary")
    shared = replace(APP, shares=(WaypointShare(BOUND, 100), WaypointShare(canary, 0)))
    it, known = waypoints_ahead(registry(APP, WAYPOINT)), registry(shared, WAYPOINT, pod("c", "10.0.0.8"))

    after = it.follow(Update(known, (), (Moved(APP, shared),)))

    assert ahead(after) == ahead(waypoints_ahead(known)) == [("canary", ["c"]), ("waypoint", ["proxy"])]
