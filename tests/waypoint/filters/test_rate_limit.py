"""Requests beyond what a RateLimitPolicy lets pass: through real tunnels, with certificates of several clients."""

from pathlib import Path

import grpc
import pytest

from policies.rate_limit import Limit, RateLimits, RateRule
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting, body, route, status
from tests.waypoint.test_grpc import _setting as grpc_setting

POLICY = """
apiVersion: pywaypoint.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: app}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  xRateLimitHeaders: DraftVersion03
  rules: [%s]
"""
EACH_CLIENT = "{name: each, clientSelectors: [{clientIdentity: {type: Distinct}}], limit: {requests: 5, unit: Hour}}"
SHADOW = "{limit: {requests: 1, unit: Hour}, shadowMode: true}"


def test_each_client_has_five_requests_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path, POLICY % EACH_CLIENT) as it:
            answers = [await it.get(at.authority) for _ in range(6)]
            other = await it.get(at.authority, account="other")
            await settled(lambda: "429 RL local_rate_limited" in it.access_log)
            exposition = it.metrics.render("")[0]

        assert [status(answer) for answer in answers] == [200] * 5 + [429]
        assert body(answers[5]) == b"local_rate_limited"
        assert [b"x-ratelimit-limit: 5\r\n" in answer for answer in answers] == [True] * 6
        assert b"x-ratelimit-remaining: 4\r\nx-ratelimit-reset: 0\r\n" in answers[0]
        assert b"x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 7" in answers[5]  # 720 s, less what has passed
        assert status(other) == 200
        assert len(seen.heads) == 6
        counted = (
            b'pywaypoint_rate_limit_total{policy="RateLimitPolicy default/app",rule="each",outcome="over_limit"} 1'
        )
        assert counted in exposition

    run(scenario())


def test_a_shadow_is_counted_and_nobody_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()), at.mesh(tmp_path, POLICY % SHADOW) as it:
            answers = [await it.get(at.authority) for _ in range(3)]
            exposition = it.metrics.render("")[0]

        assert [status(answer) for answer in answers] == [200] * 3
        assert b"x-ratelimit" not in b"".join(answers)
        assert b'rule="0",outcome="shadow_over_limit"} 2' in exposition

    run(scenario())


def test_a_changed_configuration_does_not_fill_the_buckets(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()), at.mesh(tmp_path, POLICY % EACH_CLIENT) as it:
            for _ in range(5):
                await it.get(at.authority)
            it.apply(at.manifests(route("{backendRefs: [{name: app, port: 9080}]}") + "---" + POLICY % EACH_CLIENT))
            answer = await it.get(at.authority)

        assert status(answer) == 429

    run(scenario())


@pytest.mark.parametrize(("is_resource_exhausted", "code"), [(False, 14), (True, 8)])
def test_a_grpc_client_is_told_in_its_own_way(tmp_path: Path, is_resource_exhausted: bool, code: int) -> None:
    async def scenario() -> None:
        nothing = RateRule("0", "bucket", Limit(1, 0.0, 1e-9))
        limits = RateLimits("policy", (nothing,), is_resource_exhausted=is_resource_exhausted)
        async with grpc_setting(tmp_path) as it:
            it.mesh.rule(limits)
            with pytest.raises(grpc.RpcError) as caught:
                await it.unary("Unary", b"hello")

            assert caught.value.code().value[0] == code
            assert caught.value.details() == "local_rate_limited"
            assert not it.seen.metadata

    run(scenario())
