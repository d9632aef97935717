import ast
import asyncio
import logging
from itertools import pairwise
from pathlib import Path

import pytest

from l4.net.tasks import MAX_PAUSE_SECONDS, STEADY_SECONDS, Tasks
from tests.kit.virtual_time import run_virtually


class Told:
    """What a program's metrics and readiness are told."""

    def __init__(self) -> None:
        self.counted: list[str] = []
        self.concerns: dict[str, str] = {}
        self.tasks = Tasks(self.counted.append, self.concerns.__setitem__)


def test_a_vital_loop_that_fails_is_begun_again_counted_and_shown_until_it_is_steady() -> None:
    async def scenario() -> None:
        told, begun = Told(), 0

        async def follow() -> None:
            nonlocal begun
            begun += 1
            if begun < 3:
                raise OSError("no descriptor is free")
            await asyncio.Event().wait()

        told.tasks.keep("following", follow)
        await asyncio.sleep(5)
        while_unsteady = dict(told.concerns)
        await asyncio.sleep(STEADY_SECONDS)

        assert begun == 3
        assert told.counted == ["following", "following"]
        assert while_unsteady == {"following": "following failed and is being restarted: no descriptor is free"}
        assert told.concerns == {"following": ""}
        await told.tasks.close()

    run_virtually(scenario())


@pytest.mark.parametrize("is_cancelled_inside", [False, True])
def test_a_vital_loop_that_ends_without_an_error_is_begun_again(is_cancelled_inside: bool) -> None:
    async def scenario() -> None:
        told = Told()

        async def follow() -> None:
            if is_cancelled_inside:
                lost = asyncio.get_running_loop().create_future()
                lost.cancel()
                await lost

        told.tasks.keep("following", follow)
        await asyncio.sleep(60)

        assert len(told.counted) > 2
        assert len(told.tasks) == 1
        await told.tasks.close()

    run_virtually(scenario())


def test_the_pauses_grow_to_a_bound_and_the_same_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        told = Told()
        times: list[float] = []

        async def follow() -> None:
            times.append(asyncio.get_running_loop().time())
            raise ValueError("always the same")

        told.tasks.keep("following", follow)
        await asyncio.sleep(600)
        pauses = [after - before for before, after in pairwise(times)]
        grown = pauses[6:]  # half a second doubled six times is beyond the bound

        assert pauses[0] < 1
        assert len(grown) > 15  # so that chance doesn't put them all into one fifth of the range
        assert max(grown) <= MAX_PAUSE_SECONDS
        assert max(grown) - min(grown) > MAX_PAUSE_SECONDS / 10, "replicas would retry in step"
        await told.tasks.close()

    with caplog.at_level(logging.INFO):
        run_virtually(scenario())

    assert len(caplog.records) == 1


def test_of_several_loops_with_one_name_those_that_still_fail_are_shown() -> None:
    async def scenario() -> None:
        told = Told()

        async def fail(text: str) -> None:
            raise OSError(text)

        first = told.tasks.keep("keys", lambda: fail("first"))
        told.tasks.keep("keys", lambda: fail("second"))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.sleep(0.01)

        assert told.concerns["keys"].endswith("second")
        await told.tasks.close()
        assert told.concerns == {"keys": ""}
        assert not told.tasks

    run_virtually(scenario())


_OWNERS = {
    "l4/hbone/pool.py": "dialling, which ends in time",
    "l4/hbone/server.py": "handshakes, which end in time",
    "l4/identity/istio_ca.py": "closing a replaced channel, which ends in time",
    "l4/identity/signing.py": "a task group",
    "l4/kubernetes/lease.py": "the leader's work, whose end the election notices",
    "l4/kubernetes/port_forward.py": "a command's forwarded connections, which end with it",
    "l4/kubernetes/source.py": "a task group, whose end the source's watch notices",
    "l4/net/tasks.py": "the owner",
    "l4/net/visits.py": "visits, which end in time",
    "l4/node/announcer.py": "two waits, of which the first ends both",
    "l4/xds/feed.py": "the stream, whose end the watch notices",
    "l4/xds/joined_source.py": "a task group, whose end the watch notices",
    "l4/ztunnel/node.py": "connections",
    "waypoint/commands/following.py": "a command's streams, whose ends it awaits",
    "waypoint/controller/app.py": "leading, whose end ends the program",
    "waypoint/controller/discovery_service.py": "a task group",
    "waypoint/mesh/load.py": "a task group",
    "waypoint/mesh/supervisor.py": "a task group",
    "waypoint/mesh/up.py": "a task group",
    "waypoint/process/channel.py": "answers, for which the other end waits",
}


def test_nobody_else_starts_tasks_that_nobody_would_miss() -> None:
    root = Path(__file__).parents[3]
    found = {
        str(path.relative_to(root))
        for folder in ("l4", "waypoint", "policies")
        for path in (root / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"create_task", "ensure_future"}
    }

    assert found == _OWNERS.keys(), "a loop is kept by l4.net.tasks.Tasks, which begins it again and tells"
