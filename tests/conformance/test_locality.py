"""Near endpoints before far ones, through real tunnels: while they are well, when they fail, and when they are back."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.kit.aio import run
from tests.kit.mesh import Mesh, settled
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting, body

OWN = "us.east.a"
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec: {host: app, trafficPolicy: %s}
"""
DETECTION = "outlierDetection: {consecutive5xxErrors: 2, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 100}"


def placed(at: Setting, localities: list[str], more: str) -> str:
    """The manifests of a service whose pods are at these places, behind a waypoint at OWN."""
    text = at.manifests(more).replace("gateway-name: waypoint}", f"gateway-name: waypoint, istio-locality: {OWN}}}")
    for name, locality in zip(at.pods, localities, strict=True):
        text = text.replace(f"{{name: {name}, labels: {{", f"{{name: {name}, labels: {{istio-locality: {locality}, ")
    return text


@asynccontextmanager
async def scene(folder: Path, localities: list[str], more: str, down: str = "") -> AsyncIterator[tuple[Mesh, Setting]]:
    """Pods answer with the locality they are at; the one that is `down` refuses connections."""
    at = Setting(pods=len(localities))
    async with AsyncExitStack() as stack:
        for ip, locality in zip(at.pods.values(), localities, strict=True):
            if locality != down:
                await stack.enter_async_context(origin(ip, answering(locality.encode())))
        it = await stack.enter_async_context(at.mesh(folder))
        it.apply(placed(at, localities, more))
        yield it, at


async def who(it: Mesh, at: Setting, count: int) -> Counter[str]:
    return Counter([body(await it.get(at.authority)).decode() for _ in range(count)])


def test_near_endpoints_get_everything_while_they_are_well(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, ["us.east.a", "us.west.a", "eu.west.a"], RULE % f"{{{DETECTION}}}") as (it, at):
            assert await who(it, at, 30) == {"us.east.a": 30}

    run(scenario())


def test_without_outlier_detection_all_are_alike(tmp_path: Path) -> None:
    async def scenario() -> None:
        rule = RULE % "{loadBalancer: {simple: ROUND_ROBIN}}"
        async with scene(tmp_path, ["us.east.a", "eu.west.a"], rule) as (it, at):
            assert await who(it, at, 20) == {"us.east.a": 10, "eu.west.a": 10}

    run(scenario())


def test_what_the_near_one_refuses_goes_to_the_next_and_comes_back_when_it_is_well(tmp_path: Path) -> None:
    async def scenario() -> None:
        localities = ["us.east.a", "us.west.a", "eu.west.a"]
        async with scene(tmp_path, localities, RULE % f"{{{DETECTION}}}", down="us.east.a") as (it, at):
            while_down = await who(it, at, 10)

            async with origin(at.pod, answering(b"us.east.a")):
                [name] = it.holder.current.clusters
                await settled(lambda: len(it.clusters[name].available) == 3, 15)

                assert while_down == {"us.west.a": 10}
                assert await who(it, at, 10) == {"us.east.a": 10}

    run(scenario())


def test_a_region_fails_over_to_the_one_that_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        setting = "loadBalancer: {localityLbSetting: {failover: [{from: us, to: eu}]}}"
        rule = RULE % f"{{{DETECTION}, {setting}}}"
        async with scene(tmp_path, ["us.east.a", "asia.x.a", "eu.west.a"], rule, down="us.east.a") as (it, at):
            assert await who(it, at, 10) == {"eu.west.a": 10}

    run(scenario())


def test_requests_are_distributed_by_shares_and_never_to_a_place_without_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        shares = "distribute: [{from: us/east/*, to: {us/*: 50, eu/*: 50}}]"
        rule = RULE % f"{{loadBalancer: {{localityLbSetting: {{{shares}}}}}}}"
        async with scene(tmp_path, ["us.east.a", "eu.west.a", "asia.x.a"], rule) as (it, at):
            found = await who(it, at, 60)

            assert found.keys() == {"us.east.a", "eu.west.a"}

    run(scenario())


def test_a_service_may_prefer_its_own_zone_without_any_rule(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=2)
        near, far = at.pods.values()
        text = placed(at, ["us.east.b", "us.west.a"], "").replace(
            "spec: {clusterIP", "spec: {trafficDistribution: PreferSameZone, clusterIP"
        )
        async with (
            origin(near, answering(b"near")),
            origin(far, answering(b"far")),
            at.mesh(tmp_path) as it,
        ):
            it.apply(text)
            before = await who(it, at, 10)

            it.apply(text.replace("istio-locality: us.east.b", "istio-locality: us.north.b"))

            assert before == {"near": 10}
            assert (await who(it, at, 40)).keys() == {"near", "far"}

    run(scenario())


def test_connections_and_health_outlive_a_change_of_ranks(tmp_path: Path) -> None:
    async def scenario() -> None:
        rule = RULE % f"{{{DETECTION}}}"
        async with scene(tmp_path, ["us.east.a", "eu.west.a"], rule) as (it, at):
            await who(it, at, 2)
            [name] = it.holder.current.clusters
            before = list(it.clusters[name].endpoints)

            it.apply(placed(at, ["eu.west.a", "us.east.a"], rule))

            assert it.clusters[name].endpoints == before
            far, near = at.pods.values()
            assert {live.endpoint.ip: live.endpoint.rank.priority for live in before} == {far: 3, near: 0}

    run(scenario())
