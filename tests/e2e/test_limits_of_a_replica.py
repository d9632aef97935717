"""Limits that two worker processes of one waypoint hold together."""

import asyncio
import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from l4.hbone.errors import TunnelReset
from tests.e2e.test_workers import GET, clients, connections, get, pids, status, two_workers
from tests.kit.aio import run
from tests.kit.mesh import address
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess

CONNECTIONS = 12
TOKENS = 40
MOST = 3
BREAKER = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: app, namespace: default}}
spec:
  host: app.default.svc.cluster.local
  trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: {MOST}}}}}}}
"""
RATE_LIMIT = f"""
apiVersion: pywaypoint.dev/v1alpha1
kind: RateLimitPolicy
metadata: {{name: app, namespace: default}}
spec:
  targetRefs: [{{group: "", kind: Service, name: app}}]
  xRateLimitHeaders: DraftVersion03
  rules:
    - name: everybody
      limit: {{requests: {TOKENS}, unit: Day}}
    - name: each-client
      clientSelectors: [{{clientIdentity: {{type: Distinct}}}}]
      limit: {{requests: {TOKENS}, unit: Day}}
"""

THRESHOLD = 4
OUTLIERS = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: app, namespace: default}}
spec:
  host: app.default.svc.cluster.local
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
    outlierDetection: {{consecutive5xxErrors: {THRESHOLD}, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 50}}
"""
ANOTHER_POD = """
---
apiVersion: v1
kind: Pod
metadata: {name: app-2, namespace: default, labels: {app: app}}
spec: {serviceAccountName: app, nodeName: node}
status: {podIP: %s}
"""
IS_OPEN = re.compile(r'^pywaypoint_cluster_state{.*"circuit_breakers.default.rq_open".*} 1$', re.MULTILINE)


def test_a_rate_limit_admits_its_tokens_over_connections_of_both_workers(tmp_path: Path) -> None:
    async def scenario() -> None:
        policy = tmp_path / "limit.yaml"
        policy.write_text(RATE_LIMIT)
        async with (
            two_workers(tmp_path, more=[policy]) as it,
            clients(it, CONNECTIONS) as its,
            origin(it.pod, answering(b"hello")),
        ):
            answers = [await get(client) for _ in range(TOKENS // CONNECTIONS + 2) for client in its]

            statuses = [answer.split()[1] for answer in answers]
            assert statuses == [b"200"] * TOKENS + [b"429"] * (len(answers) - TOKENS)
            assert min(await connections(it)) >= CONNECTIONS // 4
            remaining = [int(found) for found in re.findall(rb"x-ratelimit-remaining: (\d+)", b"".join(answers))]
            assert remaining == [*range(TOKENS - 1, -1, -1)] + [0] * (len(answers) - TOKENS)

    run(scenario(), 50)


def test_all_at_once_pass_at_most_one_too_many(tmp_path: Path) -> None:
    async def scenario() -> None:
        policy = tmp_path / "limit.yaml"
        policy.write_text(RATE_LIMIT)
        async with (
            two_workers(tmp_path, more=[policy]) as it,
            clients(it, CONNECTIONS) as its,
            origin(it.pod, answering(b"hello")),
        ):
            answers = await asyncio.gather(*(get(client) for client in its for _ in range(10)))

            passed = sum(answer.startswith(b"HTTP/1.1 200") for answer in answers)
            assert passed in (TOKENS, TOKENS + 1)
            assert passed + sum(answer.startswith(b"HTTP/1.1 429") for answer in answers) == len(answers)

    run(scenario(), 50)


async def breakers(it: WaypointProcess) -> list[dict[str, Any]]:
    """The count of active requests and its limit, as each worker shows them."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{it.ip}:15000/clusters") as answer:
        return [found["circuit_breakers"]["rq"] for found in await answer.json()]


def test_a_circuit_breaker_counts_the_requests_of_both_workers_and_a_killed_worker_gives_its_own_back(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        policy, may_end = tmp_path / "breaker.yaml", asyncio.Event()
        policy.write_text(BREAKER)

        async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil()
            await may_end.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        async def begin(client: WaypointProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            before = len(seen.heads)
            stream = await client.open()
            stream[1].write(GET)
            async with asyncio.timeout(10):
                while len(seen.heads) == before:  # noqa: ASYNC110 - the origin tells nobody
                    await asyncio.sleep(0.01)
            return stream

        async with (
            two_workers(tmp_path, more=[policy]) as it,
            clients(it, CONNECTIONS) as its,
            origin(it.pod, waits) as seen,
        ):
            streams = [await begin(client) for client in its[:MOST]]
            assert len(await connections(it)) == 2
            assert all(await connections(it))

            refused = [await get(client) for client in its[MOST:]]

            assert {answer.split()[1] for answer in refused} == {b"503"}
            assert len(seen.heads) == MOST
            assert await breakers(it) == [{"now": MOST, "max": MOST}] * 2
            async with asyncio.timeout(10):
                while not IS_OPEN.search(await it.metrics()):  # noqa: ASYNC110 - workers update it once a second
                    await asyncio.sleep(0.1)

            os.kill(pids(it)[0], signal.SIGKILL)
            async with asyncio.timeout(20):
                while len((await status(it))["workers"]) < 2:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            [now, again] = [found["now"] for found in await breakers(it)]
            assert now == again
            assert 0 < now < MOST
            more = [await begin(client) for client in its[MOST : 2 * MOST - now]]
            assert (await get(its[-1])).startswith(b"HTTP/1.1 503")

            may_end.set()
            lasting = 0
            for reader, writer in (*streams, *more):
                with suppress(asyncio.IncompleteReadError, ConnectionError, TunnelReset):
                    lasting += (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
                writer.close()
            assert lasting == MOST
            async with asyncio.timeout(10):
                while {found["now"] for found in await breakers(it)} != {0}:  # noqa: ASYNC110 - in other processes
                    await asyncio.sleep(0.05)

    run(scenario(), 50)


def test_failures_that_both_workers_see_eject_an_endpoint_for_both(tmp_path: Path) -> None:
    async def scenario() -> None:
        policy, broken = tmp_path / "outliers.yaml", address()
        policy.write_text(OUTLIERS + ANOTHER_POD % broken)
        async with (
            two_workers(tmp_path, more=[policy]) as it,
            clients(it, CONNECTIONS) as its,
            origin(it.pod, answering(b"hello")),
            origin(broken, answering(b"failed", status="500 Internal Server Error")) as failing,
        ):
            answers = [await get(client) for _ in range(4) for client in its]

            assert all(await connections(it))
            assert len(failing.heads) == THRESHOLD
            assert sum(answer.startswith(b"HTTP/1.1 500") for answer in answers) == THRESHOLD
            async with aiohttp.ClientSession() as session, session.get(f"http://{it.ip}:15000/endpoints") as found:
                rows = [(row["worker"], row["address"], row["status"]) for row in await found.json()]
            assert sorted(rows) == sorted(
                (f"worker {number}", f"{ip}:9080", state)
                for number in (1, 2)
                for ip, state in ((it.pod, "ready"), (broken, "ejected"))
            )

    run(scenario(), 50)
