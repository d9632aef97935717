"""Limits that a rate limit service counts: a right one, a slow one, one that fails, and none at all."""

import asyncio
from pathlib import Path

import grpc
import pytest

from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.dns import name_server
from tests.kit.mesh import address, settled
from tests.kit.origin import answering, origin
from tests.kit.rate_limit_server import rate_limit_server
from tests.waypoint.test_exchange import Setting, body, status
from waypoint.config.codes import ConfigCode

POLICY = """
apiVersion: pywaypoint.dev/v1alpha1
kind: RateLimitPolicy
metadata: {{name: app}}
spec:
  targetRefs: [{{group: "", kind: Service, name: app}}]
  xRateLimitHeaders: DraftVersion03
  scope: Global
  global: {{{server}, domain: books, timeout: {timeout}, failOpen: {fail_open}}}
  rules:
    - {{name: each, clientSelectors: [{{clientIdentity: {{type: Distinct}}}}], limit: {{requests: 2, unit: Minute}}}}
    - {{name: shadow, limit: {{requests: 1, unit: Hour}}, shadowMode: true}}
"""


SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: limits}}
spec: {{clusterIP: {vip}, ports: [{{name: grpc, port: 8081}}], selector: {{app: limits}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: limits, labels: {{app: limits}}, annotations: {{{annotations}}}}}
spec: {{serviceAccountName: app, nodeName: node}}
status: {{podIP: {ip}}}
---
"""
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: limits}}
spec:
  hosts: [limits.example]
  ports: [{{number: 443, name: grpc, protocol: GRPC, targetPort: 8081}}]
  resolution: STATIC
  endpoints: [{{address: {ip}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: limits}}
spec: {{host: limits.example, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {roots}}}}}}}
---
"""
NAMED = "service: {name: limits, port: 8081}"


def policy(address: str, timeout: str = "5s", fail_open: str = "true") -> str:
    return asking(f'address: "{address}"', timeout, fail_open)


def asking(server: str, timeout: str = "5s", fail_open: str = "true") -> str:
    return POLICY.format(server=server, timeout=timeout, fail_open=fail_open)


def test_the_service_counts_for_each_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        with rate_limit_server(ip) as server:
            async with origin(at.pod, answering()) as seen, at.mesh(tmp_path, policy(f"{ip}:8081")) as it:
                answers = [await it.get(at.authority) for _ in range(3)]
                other = await it.get(at.authority, account="other")
                await settled(lambda: "429 RL request_rate_limited" in it.access_log)
                exposition = it.metrics.render("")[0]

        assert [status(answer) for answer in answers] == [200, 200, 429]
        assert body(answers[2]) == b"slow down"
        assert b"x-envoy-ratelimited: true\r\n" in answers[2]
        assert b"x-envoy-ratelimited" not in answers[1]
        assert all(b"x-counted: yes\r\n" in answer for answer in answers)
        assert b"x-ratelimit-limit: 2, 2;w=60\r\n" in answers[0]
        assert b"x-ratelimit-remaining: 1\r\nx-ratelimit-reset: 43\r\n" in answers[0]
        assert status(other) == 200
        assert b"x-measured: yes\r\n" in seen.heads[0]
        assert len(seen.heads) == 3
        each, shadow = server.requests[0].descriptors
        assert server.requests[0].domain == "books"
        assert [(it.key, it.value) for it in each.entries] == [
            ("rule", "RateLimitPolicy default/app for Service default/app rules[each]"),
            ("identity", "cluster.local/ns/default/sa/client"),
        ]
        assert [it.key for it in shadow.entries] == ["rule"]
        assert f'service="{ip}:8081",outcome="over_limit"}} 1'.encode() in exposition

    run(scenario())


@pytest.mark.parametrize(("fail_open", "expected"), [("true", 200), ("false", 500)])
def test_a_service_that_fails_lets_pass_or_refuses_as_the_policy_says(
    tmp_path: Path, fail_open: str, expected: int
) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        with rate_limit_server(ip) as server:
            server.is_failing = True
            async with origin(at.pod, answering()), at.mesh(tmp_path, policy(f"{ip}:8081", fail_open=fail_open)) as it:
                answer = await it.get(at.authority)
                exposition = it.metrics.render("")[0]
                if expected == 500:
                    await settled(lambda: "500 RLSE rate_limiter_error" in it.access_log)

        assert status(answer) == expected
        outcome = b"failure_mode_allowed" if expected == 200 else b"error"
        assert b'outcome="' + outcome + b'"} 1' in exposition

    run(scenario())


def test_no_request_waits_longer_for_a_slow_service_than_its_timeout(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        with rate_limit_server(ip) as server:
            server.delay_seconds = 20
            async with origin(at.pod, answering()), at.mesh(tmp_path, policy(f"{ip}:8081", timeout="50ms")) as it:
                async with asyncio.timeout(15):  # far from 20 s, however slow the machine
                    answers = [await it.get(at.authority) for _ in range(3)]

        assert [status(answer) for answer in answers] == [200] * 3

    run(scenario())


def test_a_service_that_answers_nothing_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        with rate_limit_server(ip) as server:
            server.is_failing = True
            async with origin(at.pod, answering()), at.mesh(tmp_path, policy(f"{ip}:8081")) as it:
                for _ in range(5):
                    await it.get(at.authority)
                answers = await asyncio.gather(*(it.get(at.authority) for _ in range(20)))
                asked = len(server.requests)

        assert [status(answer) for answer in answers] == [200] * 20
        assert asked < 25

    run(scenario())


def test_without_a_service_requests_pass_until_it_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        async with origin(at.pod, answering()), at.mesh(tmp_path, policy(f"{ip}:8081")) as it:
            before = await it.get(at.authority)
            with rate_limit_server(ip) as server:
                async with asyncio.timeout(10):
                    while not server.requests:
                        await it.get(at.authority)

        assert status(before) == 200

    run(scenario())


def test_who_waits_for_a_service_that_goes_out_of_use_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        with rate_limit_server(ip) as server:
            server.delay_seconds = 0.3
            async with origin(at.pod, answering()), at.mesh(tmp_path, policy(f"{ip}:8081")) as it:
                waiting = asyncio.create_task(it.get(at.authority))
                await settled(lambda: len(server.requests) == 1)
                it.apply(at.manifests())
                answer = await waiting

        assert status(answer) == 200
        assert b"x-counted: yes\r\n" in answer

    run(scenario())


def test_no_header_that_the_service_adds_can_make_two_requests_of_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        with rate_limit_server(ip) as server:
            server.is_careless = True
            async with origin(at.pod, answering()) as seen, at.mesh(tmp_path, policy(f"{ip}:8081")) as it:
                answer = await it.get(at.authority)

        assert status(answer) == 200
        assert b"x-measured: yes\r\n" in seen.heads[0]
        assert b"content-length" not in seen.heads[0]
        assert b"x-split" not in seen.heads[0]

    run(scenario())


def test_a_body_that_comes_while_the_service_is_asked_arrives_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        with rate_limit_server(ip) as server:
            server.delay_seconds = 0.1
            async with origin(at.pod, answering()) as seen, at.mesh(tmp_path, policy(f"{ip}:8081")) as it:
                reader, writer = await it.tunnel(at.authority)
                writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 11\r\nConnection: close\r\n\r\nhello ")
                await settled(lambda: len(server.requests) == 1)
                writer.write(b"world")
                answer = await reader.read()
                writer.close()

        assert status(answer) == 200
        assert seen.bodies == [b"hello world"]

    run(scenario())


def test_a_service_is_let_go_of_when_the_policy_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        with rate_limit_server(ip) as server:
            async with origin(at.pod, answering()), at.mesh(tmp_path, policy(f"{ip}:8081")) as it:
                await it.get(at.authority)
                it.apply(at.manifests())
                answer = await it.get(at.authority)

        assert status(answer) == 200
        assert len(server.requests) == 1

    run(scenario())


@pytest.mark.parametrize("is_in_mesh", [False, True])
def test_a_service_of_the_mesh_is_asked_at_its_endpoints_by_mutual_tls_where_they_have_it(
    tmp_path: Path, is_in_mesh: bool
) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        annotations = "ambient.istio.io/redirection: enabled" if is_in_mesh else ""
        manifests = SERVICE.format(vip=address(), ip=ip, annotations=annotations) + asking(NAMED, fail_open="false")
        with rate_limit_server(ip) as server:
            async with origin(at.pod, answering()), at.mesh(tmp_path, manifests) as it:
                answers = [await it.get(at.authority) for _ in range(3)]
                exposition = it.metrics.render("")[0]

        assert [status(answer) for answer in answers] == [200, 200, 429]
        assert [request.domain for request in server.requests] == ["books"] * 3
        assert b'service="limits.default.svc.cluster.local:8081",outcome="over_limit"} 1' in exposition
        tunnels = [line for line in it.access_log.splitlines() if f'dst.hbone_addr="{ip}:8081"' in line]
        assert len(tunnels) == is_in_mesh  # one for all questions
        assert all('src.identity="spiffe://cluster.local/ns/default/sa/waypoint"' in line for line in tunnels)

    run(scenario())


@pytest.mark.parametrize(("roots", "expected"), [("root.pem", [200, 200, 429]), ("other.pem", [500, 500, 500])])
def test_the_host_of_a_service_entry_is_asked_by_the_tls_of_its_destination_rule(
    tmp_path: Path, roots: str, expected: list[int]
) -> None:
    async def scenario() -> None:
        at, ip, outside = Setting(), address(), MeshPki(tmp_path / "outside")
        (tmp_path / "outside/other.pem").write_bytes(MeshPki(tmp_path / "other").root_pem)
        pair = outside.leaf(dns=["limits.example"])
        credentials = grpc.ssl_server_credentials([(pair.key_pem, pair.chain_pem)])
        entry = ENTRY.format(ip=ip, roots=tmp_path / "outside" / roots)
        manifests = entry + policy("limits.example:443", fail_open="false")
        with rate_limit_server(ip, credentials=credentials) as server:
            async with origin(at.pod, answering()), at.mesh(tmp_path, manifests) as it:
                answers = [await it.get(at.authority) for _ in range(3)]

        assert [status(answer) for answer in answers] == expected
        assert len(server.requests) == (3 if 200 in expected else 0)

    run(scenario())


def test_a_name_that_the_mesh_does_not_know_is_looked_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        ip = address()
        async with name_server() as names:
            names.answers["limits.example"] = [ip]
            at = Setting(dns_servers=names.at)
            manifests = policy("limits.example:8081", fail_open="false")
            with rate_limit_server(ip) as server:
                async with origin(at.pod, answering()), at.mesh(tmp_path, manifests) as it:
                    answer = await it.get(at.authority)

        assert status(answer) == 200
        assert len(server.requests) == 1

    run(scenario())


@pytest.mark.parametrize(("fail_open", "expected"), [("true", 200), ("false", 500)])
def test_a_service_that_is_not_there_is_told_of_and_lets_pass_or_refuses(
    tmp_path: Path, fail_open: str, expected: int
) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()), at.mesh(tmp_path, asking(NAMED, fail_open=fail_open)) as it:
            answer = await it.get(at.authority)
            problems = [(problem.field, problem.code) for problem in it.holder.current.problems]

        assert status(answer) == expected
        assert ("spec.global.service", ConfigCode.BACKEND_NOT_FOUND) in problems

    run(scenario())


def test_the_connection_to_a_service_ends_when_the_policy_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip = Setting(), address()
        with rate_limit_server(ip):
            async with origin(at.pod, answering()), at.mesh(tmp_path, policy(f"{ip}:8081")) as it:
                await it.get(at.authority)
                (cluster,) = [each for each in it.clusters if each.config.name == f"address|8081||{ip}"]
                before = cluster.circuit.connections
                it.apply(at.manifests())
                await settled(lambda: not cluster.circuit.connections)

        assert before == 1
        assert cluster not in it.clusters

    run(scenario())
