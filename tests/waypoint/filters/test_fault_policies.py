"""FaultPolicies: their clients, schedules and end, through real tunnels."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin, reply, scripted
from tests.waypoint.test_exchange import Setting, body, status
from waypoint.process.facts import policy_hits

POLICY = """
apiVersion: pywaypoint.dev/v1alpha1
kind: FaultPolicy
metadata: {name: app}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  %s
"""
CLIENT = "rules: [{clientSelectors: [{clientIdentity: {serviceAccounts: [default/client]}}], %s}]"
ABORT = "abort: {httpStatus: 555, percentage: 100}"


def test_a_fault_strikes_the_clients_that_it_is_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path, POLICY % CLIENT % ABORT) as it:
            struck = await it.get(at.authority)
            spared = await it.get(at.authority, account="other")
            await settled(lambda: "555 FI fault_filter_abort" in it.access_log)
            exposition = it.metrics.render("")[0]

        assert (status(struck), body(struck)) == (555, b"fault filter abort")
        assert status(spared) == 200
        assert len(seen.heads) == 1
        plan = b'plan="FaultPolicy default/app for Service default/app"'
        assert b'pywaypoint_fault_injected_total{%s,fault="abort"} 1\n' % plan in exposition

    run(scenario())


def test_a_delay_and_an_abort_of_one_request_are_counted_each(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        both = f"rules: [{{{ABORT}, delay: {{fixedDelay: 10ms, percentage: 100}}}}]"
        async with at.mesh(tmp_path, POLICY % both) as it:
            answer = await it.get(at.authority)
            hits = policy_hits(it.metrics)

        assert status(answer) == 555
        assert hits == {("FaultPolicy", "default/app"): {"delay": 1, "abort": 1}}

    run(scenario())


@pytest.mark.parametrize(("begins", "expected"), [(-1, 555), (1, 200)])
def test_a_fault_strikes_only_while_its_schedule_is_on(tmp_path: Path, begins: int, expected: int) -> None:
    async def scenario() -> None:
        at = Setting()
        moment = (datetime.now(UTC) + timedelta(hours=begins)).isoformat()
        policy = POLICY % f"rules: [{{{ABORT}}}]\n  schedule: {{from: '{moment}'}}"
        async with origin(at.pod, answering()), at.mesh(tmp_path, policy) as it:
            answer = await it.get(at.authority)

        assert status(answer) == expected

    run(scenario())


def test_faults_stop_when_the_target_itself_fails_and_begin_anew_with_another_policy(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        stop = "\n  stopWhen: {errorPercentage: %s, minRequests: 2}"
        policy = POLICY % CLIENT % ABORT
        async with origin(at.pod, scripted(reply("500 No"))), at.mesh(tmp_path, policy + stop % 50) as it:
            silent = it.metrics.render("")[0]
            before = [status(await it.get(at.authority)) for _ in range(4)]  # these count for nothing
            failing = [status(await it.get(at.authority, account="other")) for _ in range(2)]
            after = status(await it.get(at.authority))
            exposition = it.metrics.render("")[0]
            it.apply(at.manifests(policy + stop % 60))
            anew, begun = status(await it.get(at.authority)), it.metrics.render("")[0]

        assert before == [555] * 4
        assert failing == [500] * 2
        assert after == 500
        gauge = b'pywaypoint_fault_stopped{plan="FaultPolicy default/app for Service default/app"}'
        assert gauge + b" 0\n" in silent
        assert gauge + b" 1\n" in exposition
        assert gauge + b" 0\n" in begun
        assert anew == 555

    run(scenario())
