"""The table of authorization cases through real tunnels: one mesh, one policy after the other, one request each."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from l4.hbone.errors import TunnelRefused
from tests.kit.aio import run
from tests.kit.issuer import SigningKey, jwks
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import Origin, answering, origin
from tests.policies.authorization_cases import (
    CASES,
    EVERYTHING,
    TCP_PORT,
    TOKEN,
    VIP,
    Ask,
    Case,
    allow,
    deny,
    operation,
    policy,
    when,
)

KEY = SigningKey.generate()
TOKENS = {
    "apiVersion": "security.istio.io/v1",
    "kind": "RequestAuthentication",
    "metadata": {"name": "tokens"},
    "spec": {
        "targetRefs": [{"kind": "Service", "name": "app"}],
        "jwtRules": [{"issuer": TOKEN["iss"], "jwks": jwks(KEY)}],
    },
}
IN_TUNNELS = [case for case in CASES if case.ask.account and (case.ask.claims is None or "iss" in case.ask.claims)]
_LOGGED = re.compile(r'" (\d+) \S+ (\S+) ').search


@asynccontextmanager
async def _setting(folder: Path) -> AsyncIterator[tuple[Mesh, str]]:
    waypoint, ip = address(), address()
    text = manifests(waypoint=waypoint, vip=VIP, pods={"app": ip})
    async with mesh(folder, text, waypoint) as it, origin(ip, answering(b"")), origin(ip, answering(), TCP_PORT):
        yield it, text


async def _status(it: Mesh, ask: Ask) -> str:
    """What the client is answered; how a client of bytes is refused is the CONNECT's status."""
    try:
        reader, writer = await it.tunnel(f"{VIP}:{ask.port}", account=ask.account, namespace=ask.namespace)
    except TunnelRefused as error:
        return str(error.status)
    token = f"authorization: Bearer {KEY.sign(ask.claims)}\r\n\r\n" if ask.claims is not None else "\r\n"
    writer.write(ask.raw.removesuffix(b"\r\n") + token.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head.split()[1].decode()


def _expected(case: Case) -> str:
    if not case.verdict:
        return "200"
    return case.verdict if case.verdict.isdecimal() else "403"


def _denials(log: str) -> list[str]:
    return [found[2] for line in log.splitlines() if (found := _LOGGED(line)) and found[1] == "403"]


@asynccontextmanager
async def _guarded(folder: Path, *policies: dict[str, Any], gateway: str = "") -> AsyncIterator[tuple[Mesh, Origin]]:
    """The same mesh with policies in force; `gateway` are annotations of its waypoint."""
    waypoint, ip = address(), address()
    text = manifests(waypoint=waypoint, vip=VIP, pods={"app": ip}, more=Case("", policies, Ask(), "").documents)
    plain, annotated = "metadata: {name: waypoint}", f"metadata: {{name: waypoint, annotations: {{{gateway}}}}}"
    assert plain in text
    text = text.replace(plain, annotated)
    async with (
        mesh(folder, text, waypoint) as it,
        origin(ip, answering(b"")) as seen,
        origin(ip, answering(), TCP_PORT),
    ):
        yield it, seen


async def _answer(it: Mesh, ask: Ask) -> bytes:
    reader, writer = await it.tunnel(f"{VIP}:{ask.port}", account=ask.account)
    writer.write(ask.raw)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


BETWEEN = (
    'source_workload="unknown",source_workload_namespace="default",'
    'source_principal="spiffe://cluster.local/ns/default/sa/client",'
    'destination_service_name="app",destination_service_namespace="default"'
)
"""The source and the destination of a judged request, in metrics."""


def test_what_audit_and_trials_note_stands_in_the_log_and_is_counted(tmp_path: Path) -> None:
    audit = policy(operation(paths=["/a"]), action="AUDIT", name="watch")
    trial = deny(operation(paths=["/a"]), name="trial")
    trial["metadata"] |= {"annotations": {"istio.io/dry-run": "true"}}

    async def scenario() -> tuple[list[str], str]:
        async with _guarded(tmp_path, audit, trial) as (it, _):
            answers = [await _answer(it, Ask(target)) for target in ("/a", "/b")]
            assert [answer.split()[1] for answer in answers] == [b"200", b"200"]
            await settled(lambda: it.access_log.count("dry_run=") == 2)
            lines = [line for line in it.access_log.splitlines() if "dry_run=" in line]
            return [line.partition(" audit=")[1] + line.rpartition(" dry_run=")[2] for line in lines], (
                it.metrics.render("")[0].decode()
            )

    notes, metrics = run(scenario())

    assert notes == [' audit="deny:denied:ns[default]-policy[trial]-rule[0]"', '"deny:allowed:none"']
    family = 'pywaypoint_authorization_dry_run_total{authz_dry_run_action="deny",authz_dry_run_result='
    assert f'{family}"denied",policy="default/trial",{BETWEEN}}} 1' in metrics
    assert f'{family}"allowed",policy="none",{BETWEEN}}} 1' in metrics
    assert 'pywaypoint_authorization_audited_total{policy="default/watch",rule="0"} 1' in metrics


def test_a_denial_is_counted_under_its_policy(tmp_path: Path) -> None:
    async def scenario() -> str:
        async with _guarded(tmp_path, deny(EVERYTHING, name="no")) as (it, _):
            await _answer(it, Ask())
            return it.metrics.render("")[0].decode()

    assert f'pywaypoint_authorization_denied_total{{policy="default/no",{BETWEEN}}} 1' in run(scenario())


def test_what_is_allowed_is_counted_under_the_policy_and_the_rule(tmp_path: Path) -> None:
    both = allow(operation(methods=["GET"]), operation(methods=["POST"]), name="two")
    anybody = allow(EVERYTHING, name="zero")

    async def scenario() -> str:
        async with _guarded(tmp_path, both, anybody) as (it, _):
            for method in ("GET", "POST", "POST", "PUT"):
                assert b" 200 " in await _answer(it, Ask(method=method))
            _, writer = await it.tunnel(f"{VIP}:{TCP_PORT}")
            writer.close()
            await settled(lambda: 'policy="default/zero",rule="0"} 2' in it.metrics.render("")[0].decode())
            return it.metrics.render("")[0].decode()

    metrics = run(scenario())

    assert 'pywaypoint_authorization_allowed_total{policy="default/two",rule="0"} 1' in metrics
    assert 'pywaypoint_authorization_allowed_total{policy="default/two",rule="1"} 2' in metrics


def test_a_grpc_client_is_told_in_its_own_way(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        async with _guarded(tmp_path, deny(EVERYTHING)) as (it, _):
            return await _answer(it, Ask("/a.B/C", method="POST", headers=("content-type: application/grpc",)))

    head = run(scenario())

    assert head.startswith(b"HTTP/1.1 200")
    assert b"grpc-status: 7\r\n" in head
    assert b"grpc-message: RBAC: access denied\r\n" in head


def test_a_page_of_an_allowed_origin_learns_nothing_of_a_denial(tmp_path: Path) -> None:
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "route"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "app"}],
            "rules": [
                {
                    "filters": [{"type": "CORS", "cors": {"allowOrigins": ["https://a.example"]}}],
                    "backendRefs": [{"name": "app", "port": 9080}],
                }
            ],
        },
    }
    preflight = ("origin: https://a.example", "access-control-request-method: GET")

    async def scenario() -> list[bytes]:
        async with _guarded(tmp_path, deny(operation(methods=["OPTIONS"])), route) as (it, _):
            return [await _answer(it, Ask(method=method, headers=preflight)) for method in ("OPTIONS", "GET")]

    denied, allowed = run(scenario())

    assert denied.startswith(b"HTTP/1.1 403")
    assert b"access-control-" not in denied
    assert b"access-control-allow-origin" in allowed


CLAIMS = (
    "x-forwarded-client-cert: By=a;URI=spiffe://cluster.local/ns/default/sa/admin",
    "x-envoy-peer-metadata: Cgs=",
    "x-envoy-peer-metadata-id: waypoint~1",
    "baggage: k8s.namespace.name=admin, tenant=blue,service.name=admin",
)


def test_what_a_client_says_of_its_identity_goes_no_further(tmp_path: Path) -> None:
    async def scenario() -> bytes:
        async with _guarded(tmp_path) as (it, seen):
            await _answer(it, Ask(headers=CLAIMS))
            return seen.heads[0].lower()

    head = run(scenario())

    assert b"admin" not in head
    assert b"peer-metadata" not in head
    assert b"\r\nbaggage: tenant=blue\r\n" in head


def test_endpoints_are_told_who_the_client_is_where_the_waypoint_is_asked_to(tmp_path: Path) -> None:
    client = "URI=spiffe://cluster.local/ns/default/sa/client"
    mine = allow(when("request.headers[x-forwarded-client-cert]", f"*;{client}"))

    async def scenario() -> bytes:
        gateway = 'ambient.istio.io/xfcc-include-client-identity: "true"'
        async with _guarded(tmp_path, mine, gateway=gateway) as (it, seen):
            assert (await _answer(it, Ask(headers=CLAIMS))).startswith(b"HTTP/1.1 200")
            return seen.heads[0]

    by = "By=spiffe://cluster.local/ns/default/sa/waypoint"
    assert f"\r\nx-forwarded-client-cert: {by};{client}\r\n".encode() in run(scenario())


def test_every_case_gets_the_same_verdict_through_tunnels(tmp_path: Path) -> None:
    denied = [case for case in IN_TUNNELS if _expected(case) == "403" and case.ask.port != TCP_PORT]

    async def scenario() -> tuple[list[str], list[str]]:
        async with _setting(tmp_path) as (it, text):
            answers = []
            for case in IN_TUNNELS:
                tokens = json.dumps(TOKENS) if case.ask.claims is not None else ""
                it.apply("\n---\n".join((text, case.documents, tokens)))
                answers.append(await _status(it, case.ask))
            await settled(lambda: len(_denials(it.access_log)) >= len(denied))
            return answers, _denials(it.access_log)

    answers, details = run(scenario(), 120)

    wrong = [(case.name, answer) for case, answer in zip(IN_TUNNELS, answers, strict=True) if answer != _expected(case)]
    assert wrong == []
    assert details == [case.detail for case in denied]
