"""Real Envoy and ours, limited alike: what their clients see is the same."""

import asyncio
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit import envoy
from tests.kit.aio import run
from tests.kit.mesh import address
from tests.kit.origin import answering, origin
from tests.kit.rate_limit_server import rate_limit_server
from tests.waypoint.test_exchange import Setting, body, status

pytestmark = pytest.mark.envoy

LOCAL = """
apiVersion: pywaypoint.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: app}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  xRateLimitHeaders: DraftVersion03
"""
GLOBAL = """
  scope: Global
  global: {domain: books, address: "%s:8081", timeout: 5s}
"""
Seen = tuple[int, bytes, list[bytes]]


def seen(answer: bytes) -> Seen:
    """What a client learns of limits. The time until the next request is left out: it depends on the moment, and Envoy
    rounds it down, so that a client which believes it comes too early; we round it up."""
    told = sorted(re.findall(rb"\r\n((?:x-ratelimit-(?!reset)|x-envoy-ratelimited|x-counted)[^\r]*)", answer))
    return status(answer), body(answer), told


async def from_envoy(config: envoy.Config, entry: envoy.Address, count: int) -> list[Seen]:
    answers = []
    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, envoy.run(config, ready=entry))
        for _ in range(count):
            reader, writer = await asyncio.open_connection(*entry)
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            answers.append(seen(await reader.read()))
            writer.close()
    return answers


def test_a_local_limit_answers_as_envoys(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, entry = Setting(), envoy.free_address()
        rules = "  rules: [{limit: {requests: 3, unit: Hour}}]"
        async with origin(at.pod, answering()), at.mesh(tmp_path, LOCAL + rules) as it:
            ours = [seen(await it.get(at.authority)) for _ in range(5)]
            config = envoy.with_local_limit(listen=entry, to=(at.pod, 9080), requests=3, interval="3600s")
            theirs = await from_envoy(config, entry, 5)

        assert ours == theirs
        assert [code for code, _, _ in ours] == [200, 200, 200, 429, 429]

    run(scenario())


def test_a_rate_limit_service_is_obeyed_as_by_envoy(tmp_path: Path) -> None:
    async def scenario() -> None:
        at, ip, entry = Setting(), address(), envoy.free_address()
        rules = "  rules: [{limit: {requests: 3, unit: Minute}}]"
        with rate_limit_server(ip) as server:
            server.limit = 3
            async with origin(at.pod, answering()), at.mesh(tmp_path, LOCAL + GLOBAL % ip + rules) as it:
                ours = [seen(await it.get(at.authority)) for _ in range(5)]
                place = {"listen": entry, "to": (at.pod, 9080), "service": (ip, 8081)}
                config = envoy.with_limit_service(**place, domain="envoys")
                theirs = await from_envoy(config, entry, 5)

        assert ours == theirs
        assert [code for code, _, _ in ours] == [200, 200, 200, 429, 429]

    run(scenario())
