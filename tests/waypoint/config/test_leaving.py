"""Which services a waypoint still serves after they have left it, and for how long."""

from dataclasses import replace

import pytest

from l4.discovery.index import Update
from l4.discovery.registry import Moved, Registry
from l4.discovery.workload import GatewayAddress, Service, WaypointShare
from tests.kit.workloads import registry, service
from waypoint.config.leaving import Leaving

OURS, OTHER = (GatewayAddress(ip=f"10.1.0.{number}", namespace="default", gateway=f"w{number}") for number in (1, 2))
BOUND = service("app", "10.1.0.9", ports={80: 80}, waypoint=OURS)
UNBOUND, MOVED = replace(BOUND, waypoint=None), replace(BOUND, waypoint=OTHER)
AS_CANARY = replace(MOVED, shares=(WaypointShare(OTHER, 100), WaypointShare(OURS, 0)))
HOST = BOUND.hostname


class World:
    def __init__(self, *, has_updates: bool) -> None:
        self.now = 100.0
        self.it = Leaving(("default", "w1"), 30, lambda: self.now)
        self._has_updates = has_updates
        self._registry: Registry | None = None

    def becomes(self, *services: Service) -> frozenset[str]:
        before, self._registry = self._registry, registry(*services)
        update = None
        if before is not None and self._has_updates:
            hosts = before.services.keys() | self._registry.services.keys()
            moved = (Moved(before.services.get(host), self._registry.services.get(host)) for host in hosts)
            update = Update(self._registry, (), tuple(moved))
        return self.it.follow(before, self._registry, update)


@pytest.fixture(params=[True, False], ids=["change by change", "all at once"])
def world(request: pytest.FixtureRequest) -> World:
    return World(has_updates=request.param)


@pytest.mark.parametrize("before", [BOUND, AS_CANARY], ids=["its waypoint", "its canary"])
@pytest.mark.parametrize("after", [UNBOUND, MOVED], ids=["none", "another"])
def test_a_service_that_leaves_is_served_for_a_while(world: World, before: Service, after: Service) -> None:
    assert world.becomes(before) == frozenset()
    assert world.it.rest_seconds is None

    assert world.becomes(after) == {HOST}
    assert world.it.rest_seconds == 30
    world.now += 29
    assert world.becomes(after) == {HOST}
    assert world.it.rest_seconds == 1
    world.now += 1
    assert world.becomes(after) == frozenset()
    assert world.it.rest_seconds is None


@pytest.mark.parametrize("back", [BOUND, AS_CANARY])
def test_a_service_that_comes_back_does_not_leave(world: World, back: Service) -> None:
    world.becomes(BOUND)
    world.becomes(UNBOUND)

    assert world.becomes(back) == frozenset()
    assert world.it.rest_seconds is None


def test_what_does_not_exist_any_more_or_never_was_bound_is_not_served(world: World) -> None:
    world.becomes(BOUND)
    world.becomes(UNBOUND)

    assert world.becomes() == frozenset()
    assert world.becomes(UNBOUND) == frozenset()
    assert world.becomes(MOVED) == frozenset()


def test_a_service_that_is_only_the_canarys_stays(world: World) -> None:
    world.becomes(BOUND)

    assert world.becomes(AS_CANARY) == frozenset()
