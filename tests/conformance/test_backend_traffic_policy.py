"""XBackendTrafficPolicies on a Service, through real tunnels."""

import re
from contextlib import AsyncExitStack
from pathlib import Path

from tests.kit.aio import run
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting, body, route, status

POLICY = """
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: app}
spec: {targetRefs: [{group: "", kind: Service, name: app}], %s}
---
"""


def test_retries_end_where_the_services_budget_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        constraint = "retryConstraint: {budget: {percent: 0}, minRetryRate: {count: 2, interval: 1h}}"
        retries = route("{backendRefs: [{name: app, port: 9080}], retry: {codes: [500], attempts: 1, backoff: 1ms}}")
        async with (
            origin(at.pod, answering(status="500 Oops")) as seen,
            at.mesh(tmp_path, POLICY % constraint + retries) as it,
        ):
            answers = [status(await it.get(at.authority)) for _ in range(6)]

            assert answers == [500] * 6
            assert len(seen.heads) == 6 + 2

    run(scenario())


def test_a_client_stays_with_the_endpoint_that_answered_it_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=3)
        session = "sessionPersistence: {sessionName: stay, type: Cookie}"
        async with AsyncExitStack() as stack:
            for name, ip in at.pods.items():
                await stack.enter_async_context(origin(ip, answering(name.encode())))
            it = await stack.enter_async_context(at.mesh(tmp_path, POLICY % session))
            first = await it.get(at.authority)
            cookie = re.search(rb"set-cookie: (stay=[^;]+)", first)
            assert cookie is not None

            later = [await it.get(at.authority, headers=f"Cookie: {cookie[1].decode()}\r\n") for _ in range(8)]

            assert {body(answer) for answer in later} == {body(first)}

    run(scenario())
