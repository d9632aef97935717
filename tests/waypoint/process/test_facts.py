"""The tables of the administration port, from a mesh with two workers."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.waypoint.process.test_supervisor import Pair, serving_pair
from tests.waypoint.test_exchange import Setting

MORE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules:
  - matches: [{path: {value: /a}, headers: [{name: end-user, value: jason}]}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: b}]}}]
    backendRefs: [{name: app, port: 9080}]
  - backendRefs: [{name: app, port: 9080}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-secrets}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  action: DENY
  rules: [{to: [{operation: {paths: [/]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  rules: [{to: [{operation: {methods: [POST]}}]}, {to: [{operation: {methods: [GET]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: watched}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  action: AUDIT
  rules: [{to: [{operation: {paths: [/b]}}]}]
---
apiVersion: pywaypoint.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: many}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  rules: [{limit: {requests: 1000, unit: Second}}]
"""


@asynccontextmanager
async def two_workers(folder: Path) -> AsyncIterator[tuple[Setting, Pair]]:
    at = Setting()
    async with origin(at.pod, answering(b"hello")), at.mesh(folder, MORE) as it, serving_pair(it) as both:
        assert it.holder.current.problems == ()
        yield at, both


async def table(both: Pair, path: str) -> list[dict[str, Any]]:
    status, text = await both.get(path)
    assert status == 200, text
    return json.loads(text)  # type: ignore[no-any-return]


def test_routes_come_in_the_order_in_which_they_are_tried(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path) as (at, both):
            first, second, *_ = await table(both, "/routes?service=app.*")

            assert (first["order"], first["match"]) == (
                0,
                {"path": "PREFIX /a", "headers": {"end-user": "jason"}},
            )
            assert first["source"] == "HTTPRoute default/app rules[0]"
            assert first["actions"]["request_edit"] == {"set": {"x-a": "b"}}
            assert first["backends"][0]["cluster"].startswith("inbound-vip|9080|http|app.default")
            assert (second["order"], second["port"]) == (1, 9080)
            assert at.authority in second["destinations"]
            assert await table(both, "/routes?service=other") == []
            assert await both.get("/routes?colour=red") == (
                400,
                f"there is no column 'colour'; there are {', '.join(first)}\n",
            )

    run(scenario())


def test_policies_have_their_hits_of_all_workers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path) as (at, both):
            workers = (both.mesh.waypoint, both.at, both.at)
            denied = [await both.request(at.authority, it) for it in workers]
            allowed = [await both.request(at.authority, it, "/b") for it in workers]

            rows = {it["policy"]: it for it in await table(both, "/policies")}

            assert (denied, allowed) == ([403] * 3, [200] * 3)
            no_secrets = rows["default/no-secrets"]
            assert (no_secrets["kind"], no_secrets["action"]) == ("AuthorizationPolicy", "DENY")
            assert no_secrets["services"] == ["app.default.svc.cluster.local"]
            assert no_secrets["hits"] == {"denied": 3}
            assert rows["default/readers"]["hits"] == {"allowed": 3}
            assert rows["default/watched"]["hits"] == {"audited": 3}
            assert rows["default/many"]["kind"] == "RateLimitPolicy"

    run(scenario())


def test_connections_and_endpoints_belong_to_a_worker(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path) as (at, both):
            _, writer = await both.mesh.tunnel(at.authority, to=both.at)
            await settled(lambda: both.other.connection_count == 1)

            (connection,) = await table(both, "/connections")
            endpoints = await table(both, "/endpoints?status=ready")
            writer.close()

            assert (connection["worker"], connection["direction"], connection["tunnels"]) == (
                "worker 2",
                "downstream",
                1,
            )
            assert connection["identity"].endswith("/ns/default/sa/client")
            assert {(it["worker"], it["address"]) for it in endpoints} == {
                ("worker 1", f"{at.pod}:9080"),
                ("worker 2", f"{at.pod}:9080"),
            }

    run(scenario())


def test_certificates_are_the_chain_and_the_roots_without_keys(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path) as (_, both):
            leaf, *others = await table(both, "/certificates")
            _, text = await both.get("/certificates")

            assert (leaf["kind"], leaf["status"]) == ("leaf", "valid")
            assert leaf["identity"].endswith("/ns/default/sa/waypoint")
            assert leaf["seconds_left"] > 0
            assert others[-1]["kind"] == "root"
            assert "PRIVATE" not in text

    run(scenario())


def test_the_status_adds_up_the_workers_and_a_drain_reaches_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path) as (at, both):
            tunnels = [await both.mesh.tunnel(at.authority, to=it) for it in (both.mesh.waypoint, both.at)]
            await settled(lambda: both.mesh.worker.connection_count + both.other.connection_count == 2)
            _, text = await both.get("/status")
            found = json.loads(text)

            host, port = both.supervisor.addresses.admin
            from aiohttp import ClientSession

            async with ClientSession() as client, client.post(f"http://{host}:{port}/drain") as answer:
                assert answer.status == 200
            during = await both.get("/healthz/ready", "readiness")
            for reader, writer in tunnels:
                writer.write(b"GET /b HTTP/1.1\r\nHost: app\r\n\r\n")
                assert b"connection: close" in await reader.read()
                writer.close()

            assert (found["program"], found["connections"], found["problems"]) == ("waypoint", 2, 0)
            assert [it["connections"] for it in found["workers"]] == [1, 1]
            assert during[0] == 503

    run(scenario())
