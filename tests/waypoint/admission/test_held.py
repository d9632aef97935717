"""A failing step that holds a request: the client always gets one response, and nothing is left behind."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from policies.attributes import ClusterName
from policies.fault import Delay, Fault
from policies.mirror import Mirror
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, settled
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting, body, status

SHADOW = """
apiVersion: v1
kind: Service
metadata: {name: shadow}
spec: {clusterIP: %s, ports: [{name: http, port: 9080}], selector: {app: app}}
"""
MIRROR = Mirror(ClusterName("inbound-vip|9080|http|shadow.default.svc.cluster.local"))


def test_a_request_that_waits_while_its_mirror_disappears_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()), at.mesh(tmp_path, SHADOW % address()) as it:
            it.rule(Fault(Delay(0.3, 1.0)), MIRROR)
            asked = asyncio.create_task(it.get(at.authority))
            await settled(lambda: it.path.exchanges == 1)
            it.apply(at.manifests())
            assert MIRROR.cluster not in it.holder.current.clusters
            answer = await asyncio.wait_for(asked, 5)

        assert (status(answer), body(answer)) == (200, b"hello")

    run(scenario())


class _Broken(Exception):
    """What no program should do, and some day does."""


def _break_while_held(it: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise _Broken

    monkeypatch.setattr("waypoint.exchange.Attempts", fail)
    it.rule(Fault(Delay(0.05, 1.0)))


def _break_at_once(it: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    _break_while_held(it, monkeypatch)
    it.rule()


def _break_while_connecting(it: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise _Broken

    monkeypatch.setattr("waypoint.upstream.attempts.open_connection", fail)


def _break_while_picking(it: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise _Broken

    monkeypatch.setattr("waypoint.upstream.cluster.Cluster.pick", fail)


PLAIN_ONLY = pytest.mark.skipif(os.environ.get("EXPECT_TWIN") == "1", reason="what is compiled can't be replaced")


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(_break_while_held, marks=PLAIN_ONLY),
        pytest.param(_break_at_once, marks=PLAIN_ONLY),
        _break_while_connecting,
        pytest.param(_break_while_picking, marks=PLAIN_ONLY),
    ],
)
def test_a_fault_of_the_program_is_one_answer_and_one_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, break_it: object
) -> None:
    async def scenario() -> None:
        at = Setting()
        async with at.mesh(tmp_path) as it:
            break_it(it, monkeypatch)  # type: ignore[operator]
            answer = await asyncio.wait_for(it.get(at.authority, "/a"), 5)
            await settled(lambda: "internal_failure" in it.access_log)
            text = it.metrics.render("")[0].decode()

        assert status(answer) == 500
        assert it.access_log.count("internal_failure") == 1
        assert "LR internal_failure" in it.access_log
        assert 'pywaypoint_refused_total{reason="internal_failure"' in text

    with caplog.at_level(logging.ERROR):
        run(scenario())

    traces = [record for record in caplog.records if record.exc_info and record.exc_info[0] is _Broken]
    assert len(traces) == 1


def test_a_step_that_waits_for_something_cancelled_is_a_fault_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled(*_: object) -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.cancel)
        await future

    async def scenario() -> bytes:
        at = Setting()
        async with at.mesh(tmp_path) as it:
            it.rule(Fault(Delay(0.05, 1.0)))
            with monkeypatch.context() as patched:
                patched.setattr("waypoint.filters.fault.asyncio.sleep", cancelled)
                return await asyncio.wait_for(it.get(at.authority), 5)

    assert status(run(scenario())) == 500
