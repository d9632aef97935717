"""Limits that two worker processes of one waypoint hold together."""

import asyncio
import re
from pathlib import Path

from tests.e2e.test_workers import clients, connections, get, two_workers
from tests.kit.aio import run
from tests.kit.origin import answering, origin

CONNECTIONS = 12
TOKENS = 40
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
