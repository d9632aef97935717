"""A namespace migrates from Istio's waypoint to ours and back, told by a real istiod: shares, statuses, no failure."""

import math
import time
from collections.abc import Iterator

import pytest

from tests.cluster.canary import OUR_CONTROLLER, THEIR_CONTROLLER, Load, Mesh, load, mesh, named
from tests.cluster.waiting import until
from tests.kit.pod_network import PodNetwork, needs_namespaces

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(600), needs_namespaces]

BOTH = {OUR_CONTROLLER, THEIR_CONTROLLER}
_QUIET_SECONDS = 30.0
_STAGE_SECONDS = 10.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mesh, PodNetwork]]:
    with mesh(tmp_path_factory.mktemp("mesh")) as it:
        yield it


def bound(it: Mesh) -> tuple[str, str]:
    """The status and the message of the service's condition."""
    conditions = it.get("service", "app")["status"]["conditions"]
    (found,) = [it for it in conditions if it["type"] == "istio.io/WaypointBound"]
    return found["status"], found["message"]


def is_told_by(it: Mesh, *controllers: str) -> bool:
    found = it.parents()
    return found.keys() == set(controllers) and all(its["Accepted"] == "True" for its in found.values())


def test_istiod_lists_our_waypoint_by_the_addresses_that_our_controller_wrote(world: tuple[Mesh, PodNetwork]) -> None:
    it, _ = world

    addresses = [its["value"] for its in it.get("gateway", "ours")["status"]["addresses"]]
    it.bind("ours")

    assert addresses == ["ours.shop.svc.cluster.local", it.get("service", "ours")["spec"]["clusterIP"]]
    assert it.divides() == {"ours": 100}
    until(lambda: bound(it) == ("True", "Successfully attached to waypoint shop/ours"))
    until(lambda: is_told_by(it, OUR_CONTROLLER))
    it.bind("istio")


def test_two_controllers_write_no_status_while_nothing_changes(world: tuple[Mesh, PodNetwork]) -> None:
    it, _ = world
    target = {"group": "", "kind": "Service", "name": "app"}
    rules = [{"to": [{"operation": {"methods": ["DELETE"]}}]}]
    spec = {"targetRefs": [target], "action": "DENY", "rules": rules}
    it.api.apply(named("AuthorizationPolicy", "app", "security.istio.io/v1", spec=spec))
    it.bind("istio", "ours", 10)
    until(lambda: is_told_by(it, *BOTH))
    until(lambda: it.get("authorizationpolicy", "app").get("status"))
    before = settled(it)

    time.sleep(_QUIET_SECONDS)

    assert it.versions() == before
    it.istiod.end()
    it.istiod.start()
    time.sleep(_QUIET_SECONDS / 3)
    assert it.versions() == before
    it.api.kubectl("delete", "authorizationpolicy", "app", "-n", "shop")
    it.bind("istio")


def settled(it: Mesh) -> dict[str, str]:
    """The versions of all objects once none has changed for some seconds."""
    while True:
        before = it.versions()
        time.sleep(5)
        if it.versions() == before:
            return before


def test_the_author_of_what_only_envoy_obeys_reads_it_at_the_object(world: tuple[Mesh, PodNetwork]) -> None:
    it, _ = world
    target = {"targetRefs": [{"group": "", "kind": "Service", "name": "app"}]}
    plugin = {**target, "url": "oci://example.com/plugin"}
    it.bind("istio", "ours", 0)

    it.api.apply(
        named("EnvoyFilter", "app", "networking.istio.io/v1alpha3", spec=target),
        named("WasmPlugin", "app", "extensions.istio.io/v1alpha1", spec=plugin),
    )

    for kind in ("envoyfilter", "wasmplugin"):
        (told,) = until(lambda kind=kind: it.get(kind, "app").get("status", {}).get("conditions"))
        assert (told["type"], told["status"], told["reason"]) == ("WaypointAccepted", "False", "Unsupported")
    it.bind("istio")
    until(lambda: not it.get("envoyfilter", "app").get("status", {}).get("conditions"))
    it.api.kubectl("delete", "envoyfilter,wasmplugin", "--all", "-n", "shop")


def test_a_namespace_migrates_and_comes_back_without_a_failed_request(world: tuple[Mesh, PodNetwork]) -> None:
    it, client = world
    with load(it, client) as requests:
        shares(requests, 0)
        for weight in (0, 10, 50, 100):
            it.bind("istio", "ours", weight)
            until(lambda: is_told_by(it, *BOTH))
            assert bound(it) == ("True", "Successfully attached to waypoint shop/istio")
            shares(requests, weight)
        it.bind("ours")
        until(lambda: is_told_by(it, OUR_CONTROLLER))
        shares(requests, 100)

        # Istio's waypoint has no route before it is the first one again, so ours keeps all connections until then.
        it.bind("istio", "ours", 100)
        until(lambda: is_told_by(it, *BOTH))
        shares(requests, 100)
        for weight in (50, 0, 50):
            it.bind("istio", "ours", weight)
            shares(requests, weight)
        it.bind("istio")  # while ours has connections
        until(lambda: is_told_by(it, THEIR_CONTROLLER))
        shares(requests, 0)

    found = requests.seen()
    print(f"\n{found.requests} requests on {found.through}")
    assert found.failures == []
    assert found.through["staying"] == {"istio": 4}
    assert found.through["kept"]["ours"] > 10
    assert found.through["kept"]["istio"] > 10
    assert found.requests > 5000


def shares(requests: Load, weight: int) -> None:
    """Watches what begins now. Five standard deviations: once in two million."""
    found = requests.during(_STAGE_SECONDS).through["new"]
    total, share = found.total(), weight / 100
    print(f"\nweight {weight}: {found['ours']} of {total} new connections")
    assert total > 200
    assert abs(found["ours"] - total * share) <= 5 * math.sqrt(total * share * (1 - share))
