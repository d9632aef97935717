"""Envoy and our waypoint with the same endpoints and configuration: refusals, ejections, and endpoints per hash key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.conformance.test_locality import placed
from tests.kit import envoy
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import Step, answering, origin, reply, scripted
from tests.waypoint.test_exchange import Setting, body, status

pytestmark = pytest.mark.envoy

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec: {host: app, trafficPolicy: %s}
"""
Get = Callable[[str], Coroutine[None, None, bytes]]
"""Sends a GET with these headers; the raw answer."""


@asynccontextmanager
async def through_envoy(at: Setting, cluster: envoy.Config) -> AsyncIterator[Get]:
    entry = envoy.free_address()
    config = envoy.balancer(listen=entry, to=[(ip, 9080) for ip in at.pods.values()], **cluster)

    async def get(headers: str = "") -> bytes:
        reader, writer = await asyncio.open_connection(*entry)
        writer.write(f"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{headers}\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer

    before = asyncio.all_tasks()
    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, envoy.run(config, ready=entry))
        yield get
    await settled(lambda: asyncio.all_tasks() == before)  # those of the origins' connections


@asynccontextmanager
async def through_ours(at: Setting, folder: Path, policy: str) -> AsyncIterator[Get]:
    async with at.mesh(folder, RULE % policy) as it:
        yield lambda headers="": it.get(at.authority, headers=headers)  # type: ignore[misc]


# -- retries ---------------------------------------------------------------------------------------------------------

ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec: {hosts: [app], http: [{retries: %s, route: [{destination: {host: app}}]}]}
"""


async def attempts(get: Get, at: Setting, script: list[Step]) -> tuple[int, int]:
    """How many attempts an endpoint meets that goes by a script, and what the client gets in the end."""
    async with origin(at.pod, scripted(*script)) as seen:
        answer = await get("")
        return len(seen.heads), status(answer)


@pytest.mark.parametrize(
    ("reasons", "script", "expected"),
    [
        ("503", [reply("503 Not Now")], (4, 503)),
        ("503", [reply("503 Not Now"), reply("500 Oops")], (2, 500)),
        ("5xx", [reply("503 Not Now"), reply("500 Oops"), reply()], (3, 200)),
        ("gateway-error", [reply("500 Oops"), reply()], (1, 500)),
        ("connect-failure", [reply("503 Not Now"), reply()], (1, 503)),
        ("retriable-4xx", [reply("409 Conflict"), reply()], (2, 200)),
    ],
)
def test_as_many_attempts_are_made(tmp_path: Path, reasons: str, script: list[Step], expected: tuple[int, int]) -> None:
    async def scenario() -> None:
        at = Setting()
        statuses = [503] if reasons == "503" else []
        retry = {
            "num_retries": 3,
            "retry_on": "retriable-status-codes" if statuses else reasons,
            "retriable_status_codes": statuses,
            "retry_back_off": {"base_interval": "0.001s"},
        }
        async with through_envoy(at, {"retry": retry}) as get:
            theirs = await attempts(get, at, script)
        policy = f"{{attempts: 3, retryOn: {reasons!r}, backoff: 1ms}}"
        async with at.mesh(tmp_path, ROUTE % policy) as it:
            ours = await attempts(lambda headers: it.get(at.authority, headers=headers), at, script)

        assert (theirs, ours) == (expected, expected)

    run(scenario(), 60)


# -- circuit breaking ------------------------------------------------------------------------------------------------


async def refusals(get: Get, at: Setting, admitted_at_once: int, requests: int, expected: int) -> list[int]:
    """The statuses of requests of which as many as may are sent one by one, and the rest together; the endpoint answers
    when as many are refused as is expected."""
    gate = asyncio.Event()

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await reply()(reader, writer)

    async with origin(at.pod, scripted(held)) as seen:
        tasks = []
        for number in range(admitted_at_once):
            tasks.append(asyncio.create_task(get("")))
            await settled(lambda wanted=number + 1: len(seen.heads) == wanted)  # type: ignore[misc]
        tasks += [asyncio.create_task(get("")) for _ in range(requests - admitted_at_once)]
        await settled(lambda: sum(task.done() for task in tasks) == expected)
        gate.set()
        return sorted(status(answer) for answer in await asyncio.gather(*tasks))


@pytest.mark.parametrize(
    ("limits", "admitted_at_once", "refused"),
    [
        ((1, 2, None), 1, 5),
        ((2, 1, None), 2, 5),
        ((None, None, 3), 3, 5),
        ((1, 3, 2), 1, 4),
    ],
)
def test_as_many_requests_overflow(
    tmp_path: Path, limits: tuple[int | None, ...], admitted_at_once: int, refused: int
) -> None:
    async def scenario() -> None:
        at = Setting()
        connections, pending, requests = limits
        thresholds = {"max_connections": connections, "max_pending_requests": pending, "max_requests": requests}
        cluster = {"circuit_breakers": {"thresholds": [{k: v for k, v in thresholds.items() if v is not None}]}}
        http = f"{{http1MaxPendingRequests: {pending or 0}, http2MaxRequests: {requests or 0}}}"
        policy = f"{{connectionPool: {{tcp: {{maxConnections: {connections or 0}}}, http: {http}}}}}"
        async with through_envoy(at, cluster) as get:
            theirs = await refusals(get, at, admitted_at_once, 8, refused)
        async with through_ours(at, tmp_path, policy) as get:
            ours = await refusals(get, at, admitted_at_once, 8, refused)

        assert theirs == ours == [200] * (8 - refused) + [503] * refused

    run(scenario(), 60)


# -- outlier detection -----------------------------------------------------------------------------------------------

_ASKED = 80
OK, BROKEN, UNAVAILABLE = reply(), reply("500 Oops"), reply("503 Not Now")
GRPC_UNAVAILABLE = reply("200 OK", b"", "Content-Type: application/grpc\r\ngrpc-status: 14\r\n")


async def met_before_ejection(get: Get, at: Setting, script: list[Step]) -> int:
    """How many requests an endpoint has met that goes by a script, beside one that is well."""
    bad, good = at.pods.values()
    async with origin(bad, scripted(*script)) as seen, origin(good, answering()):
        for _ in range(_ASKED):
            await get("Content-Type: application/grpc\r\n")
        return len(seen.heads)


@pytest.mark.parametrize(
    ("thresholds", "script", "met"),
    [
        ((3, 0), [BROKEN, BROKEN, OK, BROKEN, BROKEN, BROKEN], 6),
        ((0, 2), [UNAVAILABLE, BROKEN, UNAVAILABLE, OK, UNAVAILABLE, UNAVAILABLE], 6),
        ((4, 2), [BROKEN, UNAVAILABLE, BROKEN, UNAVAILABLE, UNAVAILABLE], 4),
        ((0, 3), [GRPC_UNAVAILABLE], 3),
        ((1, 0), [OK, GRPC_UNAVAILABLE], 2),
    ],
)
def test_the_same_sequence_of_answers_ejects_an_endpoint(
    tmp_path: Path, thresholds: tuple[int, int], script: list[Step], met: int
) -> None:
    async def scenario() -> None:
        at = Setting(pods=2)
        fives, gateway = thresholds
        detection = {
            "consecutive_5xx": fives or 5,
            "enforcing_consecutive_5xx": 100 if fives else 0,
            "consecutive_gateway_failure": gateway or 5,
            "enforcing_consecutive_gateway_failure": 100 if gateway else 0,
            "enforcing_success_rate": 0,
            "base_ejection_time": "300s",
            "max_ejection_percent": 100,
        }
        policy = (
            f"{{outlierDetection: {{consecutive5xxErrors: {fives}, consecutiveGatewayErrors: {gateway}, "
            "baseEjectionTime: 300s, maxEjectionPercent: 100}, loadBalancer: {simple: ROUND_ROBIN}}"
        )
        async with through_envoy(at, {"outlier_detection": detection, "lb_policy": "ROUND_ROBIN"}) as get:
            theirs = await met_before_ejection(get, at, script)
        async with through_ours(at, tmp_path, policy) as get:
            ours = await met_before_ejection(get, at, script)

        assert ours == met
        assert met <= theirs < _ASKED / 2  # its main thread ejects, a few requests after the answer that asks for it

    run(scenario(), 60)


# -- locality --------------------------------------------------------------------------------------------------------


async def share_of_near(get: Get, at: Setting) -> float:
    """Of two near endpoints and a far one, of which a near one is ejected at its first answer: what the other gets."""
    broken, near, far = at.pods.values()
    async with (
        origin(broken, answering(status="500 Oops")) as ejected,
        origin(near, answering()) as chosen,
        origin(far, answering()) as other,
    ):
        spared = 0
        while not ejected.heads or spared < 20:
            before = len(ejected.heads)
            await get("")
            spared = spared + 1 if len(ejected.heads) == before else 0
        ejected.heads.clear()
        chosen.heads.clear()
        other.heads.clear()
        for _ in range(400):
            await get("")
        assert not ejected.heads
        return len(chosen.heads) / (len(chosen.heads) + len(other.heads))


def test_half_of_the_near_endpoints_get_as_much_of_the_requests(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=3)
        detection = {"consecutive_5xx": 1, "base_ejection_time": "300s", "max_ejection_percent": 100}
        cluster = {"outlier_detection": detection, "common_lb_config": {"healthy_panic_threshold": {"value": 0}}}
        policy = "{outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 300s, maxEjectionPercent: 100}}"
        async with through_envoy(at, cluster | {"priorities": [0, 0, 1]}) as get:
            theirs = await share_of_near(get, at)
        async with at.mesh(tmp_path) as it:
            it.apply(placed(at, ["us.east.a", "us.east.a", "eu.west.a"], RULE % policy))
            ours = await share_of_near(lambda headers: it.get(at.authority, headers=headers), at)

        assert (theirs, ours) == (pytest.approx(0.7, abs=0.12), pytest.approx(0.7, abs=0.12))

    run(scenario(), 60)


# -- hashing ---------------------------------------------------------------------------------------------------------


async def met_by_keys(get: Get) -> list[bytes]:
    """Who answers to each of some keys."""
    return [body(await get(f"x-user: {number}\r\n")) for number in range(60)]


@pytest.mark.parametrize(
    ("cluster", "table"),
    [
        (
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 64}},
            "ringHash: {minimumRingSize: 64}",
        ),
        ({"lb_policy": "RING_HASH"}, "ringHash: {minimumRingSize: 1024}"),
        ({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 1021}}, "maglev: {tableSize: 1021}"),
        ({"lb_policy": "MAGLEV"}, "maglev: {}"),
    ],
)
def test_the_same_key_meets_the_same_endpoint(tmp_path: Path, cluster: envoy.Config, table: str) -> None:
    async def scenario() -> None:
        at = Setting(pods=5)
        policy = f"{{loadBalancer: {{consistentHash: {{httpHeaderName: x-user, {table}}}}}}}"
        async with AsyncExitStack() as stack:
            for name, ip in at.pods.items():
                await stack.enter_async_context(origin(ip, answering(name.encode())))
            async with through_envoy(at, cluster) as get:
                theirs = await met_by_keys(get)
            async with through_ours(at, tmp_path, policy) as get:
                ours = await met_by_keys(get)

        assert ours == theirs
        assert len(set(theirs)) > 2  # else there is nothing to agree on

    run(scenario(), 60)
