"""Each vital loop of the waypoint fails once, and then does again what it is for."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from tests.kit.aio import run
from tests.kit.dns import name_server
from tests.kit.failing import vital_loops
from tests.kit.issuer import ISSUER, SigningKey, jwks, key_server
from tests.kit.mesh import address
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

FAILING = (sys.executable, "-m", "tests.kit.failing")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
MORE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api, namespace: default, labels: {{istio.io/use-waypoint: waypoint}}}}
spec:
  hosts: [api.example.org]
  addresses: [{vip}]
  resolution: DNS
  endpoints: [{{address: backend.test}}]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 9080}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: default}}
spec:
  targetRefs: [{{kind: Service, group: "", name: app}}]
  jwtRules: [{{issuer: "{issuer}", jwksUri: "{uri}"}}]
"""
DENY = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: default}
spec: {targetRefs: [{kind: Service, group: "", name: app}], action: DENY, rules: [{}]}
"""


OF_SEVERAL_WORKERS = {
    "expiring the counts of workers",
    "following the configuration for workers",
    "keeping the counts of workers",
    "looking after workers",
    "telling the load",
}


async def ask(it: WaypointProcess, token: str = "") -> str:
    """Status and body, or the status alone."""
    reader, writer = await it.open()
    head = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"GET / HTTP/1.1\r\nHost: app\r\n{head}Connection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    status = answer.split()[1]
    return f"200 {answer[-2:]}" if status == "200" else status


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.2)


async def failures(it: WaypointProcess) -> dict[str, int]:
    found = re.findall(r'^pywaypoint_loop_failures_total{loop="(.*)"} (\d+)$', await it.metrics(), re.MULTILINE)
    return {name: int(count) for name, count in found}


def test_each_vital_loop_that_fails_comes_back(tmp_path: Path) -> None:
    loops = vital_loops("waypoint") - vital_loops("waypoint/controller") - OF_SEVERAL_WORKERS

    async def scenario() -> None:
        first, second, vip, other = SigningKey.generate(kid="1"), SigningKey.generate(kid="2"), address(), address()
        more = tmp_path / "more.yaml"
        async with key_server(jwks(first)) as keys, name_server() as names:
            names.answers["backend.test"] = [address()]
            more.write_text(MORE.format(vip=vip, issuer=ISSUER, uri=keys.jwks_uri))
            settings = {
                "DNS_SERVERS": names.at,
                "DNS_MIN_SECONDS": "0.2",
                "JWKS_REFRESH_SECONDS": "1",
                "MEMORY_LIMIT_BYTES": str(8 << 30),
            }
            with (tmp_path / "log").open("wb") as log:
                async with (
                    waypoint_process(tmp_path, prefix=FAILING, more=[more], log=log, **settings) as it,
                    origin(it.pod, answering(ANSWER + b"ok")),
                    origin(other, answering(ANSWER + b"it")),
                ):
                    await until(lambda: _have_failed(it, loops))

                    names.answers["backend.test"] = [other]
                    keys.text = jwks(second)
                    token, api = second.sign({"iss": ISSUER, "sub": "alice"}), replace(it, authority=f"{vip}:80")
                    await until(lambda: _is(ask(api), "200 it"))
                    await until(lambda: _is(ask(it, token), "200 ok"))
                    own = it.pki.identity("default", "waypoint")
                    it.pki.write(own, it.pki.leaf([str(own)], ends=timedelta(hours=9)))
                    await until(lambda: _expires_after(it, 8 * 3600))
                    more.write_text(more.read_text() + DENY)
                    await until(lambda: _is(ask(it, token), "403"))
                    await until(lambda: _is_well(it))

                    assert set((await failures(it)).values()) == {1}

    run(scenario(), 120)


async def _have_failed(it: WaypointProcess, loops: set[str]) -> bool:
    return (await failures(it)).keys() == loops


async def _is(asked: Awaitable[str], wanted: str) -> bool:
    return await asked == wanted


async def _expires_after(it: WaypointProcess, seconds: float) -> bool:
    found = re.search(r"^istio_cert_expiry_seconds\S* (\S+)$", await it.metrics(), re.MULTILINE)
    return found is not None and float(found[1]) > seconds


async def _is_well(it: WaypointProcess) -> bool:
    return await it.readiness() == (200, "ready\n")
