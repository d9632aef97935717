"""DestinationRules, through real tunnels, with endpoints that are slow, broken or selective."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponseError, ClientSession

from l4.admin import OperatorAddresses
from l4.telemetry.metrics import MeshMetrics
from tests.kit.aio import run
from tests.kit.http2 import http2_origin
from tests.kit.mesh import Mesh, settled
from tests.kit.origin import Handler, answering, hang, origin, raw, reset, scripted
from tests.waypoint.test_exchange import Setting, body, status
from waypoint.process.answering import LocalWorker
from waypoint.process.supervisor import Supervisor
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.state import CLUSTERS_PATH

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec: {host: app, trafficPolicy: %s}
"""
OVERFLOW = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"


def waiting_for(go: asyncio.Event) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    return handler


def saying(name: bytes) -> Handler:
    """Says its name, whatever it is sent, and no more."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(name)

    return handler


def events(it: Mesh) -> dict[str, int]:
    text = it.metrics.render("")[0].decode()
    return {name: int(float(n)) for name, n in re.findall(r'cluster_events_total{event="([^"]+)".*} (\S+)', text)}


def the_cluster(it: Mesh) -> Cluster:
    [name] = it.holder.current.clusters
    return it.clusters[name]


async def names(it: Mesh, at: Setting, count: int, headers: str = "") -> list[str]:
    """Who answered, of pods that say their name."""
    return [body(await it.get(at.authority, headers=headers)).decode() for _ in range(count)]


# -- circuit breaking ------------------------------------------------------------------------------------------------


def test_one_request_more_than_may_be_under_way_is_answered_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        go, at = asyncio.Event(), Setting()
        rule = RULE % "{connectionPool: {http: {http2MaxRequests: 2}}}"
        async with origin(at.pod, waiting_for(go)) as seen, at.mesh(tmp_path, rule) as it:
            admitted = [asyncio.create_task(it.get(at.authority)) for _ in range(2)]
            await settled(lambda: len(seen.heads) == 2)
            refused = await it.get(at.authority)
            go.set()
            answers = await asyncio.gather(*admitted)
            later = await it.get(at.authority)

            assert (status(refused), body(refused)) == (503, OVERFLOW)
            assert b"x-envoy-overloaded: true\r\n" in refused
            assert [status(answer) for answer in (*answers, later)] == [200, 200, 200]
            assert len(seen.heads) == 3
            assert events(it) == {"upstream_rq_pending_overflow": 1}
            detail = "upstream_reset_before_response_started{overflow}"
            await settled(lambda: f" 503 UO {detail} " in it.access_log)

    run(scenario())


def test_requests_wait_for_the_connection_that_there_may_be(tmp_path: Path) -> None:
    async def scenario() -> None:
        go, at = asyncio.Event(), Setting()
        rule = RULE % "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 2}}}"
        async with origin(at.pod, waiting_for(go)) as seen, at.mesh(tmp_path, rule) as it:
            first = asyncio.create_task(it.get(at.authority))
            await settled(lambda: len(seen.heads) == 1)
            waiting = [asyncio.create_task(it.get(at.authority)) for _ in range(2)]
            await settled(lambda: the_cluster(it).circuit.pending == 2)
            refused = await it.get(at.authority)
            go.set()
            answers = await asyncio.gather(first, *waiting)

            assert status(refused) == 503
            assert [status(answer) for answer in answers] == [200, 200, 200]
            assert seen.connections == 1
            assert events(it) == {"upstream_cx_overflow": 2, "upstream_rq_pending_overflow": 1}

    run(scenario())


def test_who_waits_for_a_connection_gets_a_new_one_when_another_breaks(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()

        async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

        rule = RULE % "{connectionPool: {tcp: {maxConnections: 1}}}"
        async with origin(at.pod, closing) as seen, at.mesh(tmp_path, rule) as it:
            answers = await asyncio.gather(*(it.get(at.authority) for _ in range(4)))

            assert [status(answer) for answer in answers] == [200] * 4
            assert seen.connections == 4

    run(scenario())


def test_waiting_for_a_connection_has_an_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        go, at = asyncio.Event(), Setting()
        rule = RULE % "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: 100ms}}}"
        async with origin(at.pod, waiting_for(go)) as seen, at.mesh(tmp_path, rule) as it:
            first = asyncio.create_task(it.get(at.authority))
            await settled(lambda: len(seen.heads) == 1)

            refused = await it.get(at.authority)
            go.set()

            assert (status(refused), body(refused)) == (503, OVERFLOW)
            assert status(await first) == 200

    run(scenario())


def test_a_connection_serves_no_more_requests_than_it_may(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        rule = RULE % "{connectionPool: {http: {maxRequestsPerConnection: 2}}}"
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path, rule) as it:
            for _ in range(5):
                await it.get(at.authority)

            assert seen.connections == 3

    run(scenario())


def test_http1_goes_on_as_http2_where_it_is_to_be_upgraded(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        rule = RULE % (
            "{connectionPool: {tcp: {maxConnections: 1}, http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 1}}}"
        )
        async with http2_origin(at.pod) as seen, at.mesh(tmp_path, rule) as it:
            answers = await asyncio.gather(*(it.get(at.authority) for _ in range(5)))

            assert [status(answer) for answer in answers] == [200] * 5
            assert len(seen.peers) == 1
            assert len(seen.requests) == 5

    run(scenario())


# -- outlier detection -----------------------------------------------------------------------------------------------


def test_a_broken_endpoint_is_left_alone_and_comes_back_when_its_time_is_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=2)
        rule = RULE % (
            "{outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 3s, maxEjectionPercent: 100},"
            " loadBalancer: {simple: ROUND_ROBIN}}"
        )
        good, bad = at.pods.values()
        async with origin(good, answering(b"good")), at.mesh(tmp_path, rule) as it:
            async with origin(bad, answering(b"bad", status="500 Oops", headers="Connection: close\r\n")) as seen:
                answers = await names(it, at, 12)
                assert answers.count("bad") == len(seen.heads) == 3
                assert set(answers[7:]) == {"good"}
                assert events(it)["outlier_detection.ejections_enforced_total"] == 1
            async with origin(bad, answering(b"mended")):
                await settled(lambda: events(it).get("outlier_detection.returned") == 1)

                assert Counter(await names(it, at, 10)) == {"good": 5, "mended": 5}

    run(scenario())


def test_who_is_ejected_and_which_bound_is_reached_can_be_looked_at(tmp_path: Path) -> None:
    async def scenario() -> None:
        go, at = asyncio.Event(), Setting(pods=2)
        rule = RULE % (
            "{outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 60s, maxEjectionPercent: 100},"
            " connectionPool: {http: {http2MaxRequests: 1}}, loadBalancer: {simple: ROUND_ROBIN}}"
        )
        good, bad = at.pods.values()
        async with AsyncExitStack() as stack:
            seen = await stack.enter_async_context(origin(good, waiting_for(go)))
            await stack.enter_async_context(origin(bad, answering(b"bad", status="500 Oops")))
            it = await stack.enter_async_context(at.mesh(tmp_path, rule))
            look = await stack.enter_async_context(looking_at(it))
            go.set()
            await names(it, at, 6)
            go.clear()
            waiting = asyncio.create_task(it.get(at.authority))
            before = len(seen.heads)
            await settled(lambda: len(seen.heads) > before)

            (cluster,) = await look("app.default.svc.cluster.local")
            ejected = {each["address"]: each["ejected_for_seconds"] for each in cluster["endpoints"]}
            assert ejected.pop(f"{good}:9080") is None
            assert 50 < ejected.pop(f"{bad}:9080") <= 60
            assert {each["requests"] for each in cluster["endpoints"]} == {0, 1}
            assert cluster["circuit_breakers"]["rq"] == {"now": 1, "max": 1}
            shown = 'pywaypoint_cluster_state{state="%s",cluster_name="' + cluster["name"] + '"} %d\n'
            await settled(lambda: shown % ("circuit_breakers.default.rq_open", 1) in stats(it))
            assert shown % ("outlier_detection.ejections_active", 1) in stats(it)

            go.set()
            await waiting
            await settled(lambda: shown % ("circuit_breakers.default.rq_open", 0) in stats(it))
            with pytest.raises(ClientResponseError, match="404"):
                await look("nobody")

    run(scenario())


def stats(it: Mesh) -> str:
    return it.metrics.render("")[0].decode()


@asynccontextmanager
async def looking_at(it: Mesh) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """What the administration port tells of a destination."""
    supervisor = Supervisor([LocalWorker("worker 1", it.worker)], MeshMetrics("proxy", "test"), (), lambda: None)
    await supervisor.start(OperatorAddresses(*[("127.0.0.1", 0)] * 3))
    url = f"http://127.0.0.1:{supervisor.addresses.admin[1]}{CLUSTERS_PATH}"
    try:
        async with ClientSession(raise_for_status=True) as client:

            async def look(name: str) -> Any:
                async with client.get(url, params={"name": name}) as answer:
                    return await answer.json()

            yield look
    finally:
        await supervisor.close()


def test_an_endpoint_that_refuses_connections_is_ejected_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=2)
        rule = RULE % "{outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 50}}"
        good, _ = at.pods.values()
        async with origin(good, answering(b"good")), at.mesh(tmp_path, rule) as it:
            answers = [status(await it.get(at.authority)) for _ in range(20)]

            cluster = the_cluster(it)
            assert answers == [200] * 20
            assert [live.endpoint.ip for live in cluster.available] == [good]

    run(scenario())


LATE = """
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules: [{timeouts: {request: 200ms}, backendRefs: [{name: app, port: 9080}]}]
"""


@pytest.mark.parametrize(
    ("broken", "answered", "more"),
    [
        (scripted(hang), 504, LATE),
        (scripted(reset()), 503, ""),
        (scripted(raw(b"nonsense\r\n\r\n")), 502, ""),
    ],
    ids=["hangs", "resets", "speaks no HTTP"],
)
def test_an_endpoint_that_misbehaves_is_ejected_like_one_that_answers_503(
    tmp_path: Path, broken: Handler, answered: int, more: str
) -> None:
    async def scenario() -> None:
        at = Setting(pods=2)
        rule = RULE % (
            "{outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 50}, loadBalancer: {simple: ROUND_ROBIN}}"
        )
        good, bad = at.pods.values()
        async with (
            origin(good, answering(b"good")),
            origin(bad, broken) as seen,
            at.mesh(tmp_path, rule + more) as it,
        ):
            answers = Counter([status(await it.get(at.authority)) for _ in range(12)])

            assert answers == {200: 10, answered: 2}
            assert len(seen.heads) == 2

    run(scenario())


def test_what_a_circuit_breaker_refuses_is_held_against_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        go, at = asyncio.Event(), Setting(pods=2)
        rule = RULE % (
            "{outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100},"
            " connectionPool: {http: {http2MaxRequests: 1}}}"
        )
        async with AsyncExitStack() as stack:
            seen = [await stack.enter_async_context(origin(ip, waiting_for(go))) for ip in at.pods.values()]
            it = await stack.enter_async_context(at.mesh(tmp_path, rule))
            first = asyncio.create_task(it.get(at.authority))
            await settled(lambda: sum(len(each.heads) for each in seen) == 1)
            refused = [status(await it.get(at.authority)) for _ in range(5)]
            go.set()

            assert refused == [503] * 5
            assert status(await first) == 200
            assert len(the_cluster(it).available) == 2

    run(scenario())


def test_the_default_ejects_nobody_of_two(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=2)
        rule = RULE % "{outlierDetection: {consecutive5xxErrors: 1}}"
        async with origin(at.pod, answering(status="500 Oops")), at.mesh(tmp_path, rule) as it:
            for _ in range(5):
                await it.get(at.authority)

            assert not any(live.health.is_ejected for live in the_cluster(it).endpoints)
            assert events(it)["outlier_detection.ejections_overflow"] > 0

    run(scenario())


# -- load balancing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["ringHash: {minimumRingSize: 1024}", "maglev: {tableSize: 1021}"])
def test_requests_with_one_key_meet_one_endpoint(tmp_path: Path, table: str) -> None:
    async def scenario() -> None:
        at = Setting(pods=3)
        rule = RULE % f"{{loadBalancer: {{consistentHash: {{httpHeaderName: X-User, {table}}}}}}}"
        async with AsyncExitStack() as stack:
            for name, ip in at.pods.items():
                await stack.enter_async_context(origin(ip, answering(name.encode())))
            it = await stack.enter_async_context(at.mesh(tmp_path, rule))

            met = [set(await names(it, at, 2, f"X-User: {user}\r\n")) for user in range(32)]

            assert all(len(each) == 1 for each in met)
            assert set().union(*met) == set(at.pods)

    run(scenario())


def test_a_client_gets_a_cookie_and_stays_with_its_endpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=3)
        rule = RULE % "{loadBalancer: {consistentHash: {httpCookie: {name: user, path: /, ttl: 60s}}}}"
        async with AsyncExitStack() as stack:
            for name, ip in at.pods.items():
                await stack.enter_async_context(origin(ip, answering(name.encode())))
            it = await stack.enter_async_context(at.mesh(tmp_path, rule))

            first = await it.get(at.authority)
            found = re.search(rb"set-cookie: (user=[^;]+); Max-Age=60; Path=/; HttpOnly\r\n", first)
            assert found is not None
            cookie = f"Cookie: {found[1].decode()}\r\n"

            assert set(await names(it, at, 6, cookie)) == {body(first).decode()}
            assert b"set-cookie" not in await it.get(at.authority, headers=cookie)

    run(scenario())


def test_opaque_connections_of_one_client_meet_one_endpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=4)
        text = at.manifests(RULE % "{loadBalancer: {consistentHash: {useSourceIp: true}}}")
        async with AsyncExitStack() as stack:
            for name, ip in at.pods.items():
                await stack.enter_async_context(origin(ip, saying(name.encode())))
            it = await stack.enter_async_context(at.mesh(tmp_path))
            it.apply(text.replace("{name: http, port: 9080}", "{name: tcp, port: 9080}"))

            assert len({await it.get(at.authority) for _ in range(8)}) == 1

    run(scenario())
