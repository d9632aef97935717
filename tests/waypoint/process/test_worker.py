import ast
import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from l4.config.documents import ObjectKey
from l4.hbone.errors import TunnelReset
from l4.net.pressure import Level
from tests.kit.aio import run
from tests.kit.mesh import Mesh, settled
from tests.kit.origin import answering, hang, origin
from tests.waypoint.test_exchange import Setting, status
from waypoint.config.status import RouteStatus
from waypoint.config.transitions import NEVER, Placed
from waypoint.process.worker import assemble


def test_a_worker_sheds_load_as_memory_gets_scarce_and_takes_it_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering(b"hello")), at.mesh(tmp_path) as it:
            statuses = {}
            for level in (Level.CALM, Level.TIGHT, Level.SCARCE, Level.EXHAUSTED, Level.CALM):
                it.worker.relieve(level)
                statuses[level] = status(await it.get(at.authority)), it.worker.capacity.is_shut

            assert statuses[Level.TIGHT] == (200, False)
            assert statuses[Level.SCARCE] == (503, False)
            assert statuses[Level.EXHAUSTED] == (503, True)
            assert statuses[Level.CALM] == (200, False)

    run(scenario())


def test_a_closed_worker_leaves_nothing_behind_whatever_was_under_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, hang), at.mesh(tmp_path) as it:
            tasks = asyncio.all_tasks()
            waiting = asyncio.create_task(it.get(at.authority))
            await settled(lambda: it.path.exchanges == 1)
            other = assemble(it.worker.parts)
            other.put_in_force(it.holder.current)

            await it.worker.drain(0.1)
            await it.worker.close()
            await other.close()

            with pytest.raises(TunnelReset):
                await waiting
            await settled(lambda: it.worker.pool.connection_count == 0)
            assert it.path.exchanges == it.worker.connection_count == 0
            assert not it.worker.tasks
            await settled(lambda: asyncio.all_tasks() <= tasks)

    run(scenario())


def test_workers_of_the_same_parts_share_no_state(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with at.mesh(tmp_path) as it:
            other = assemble(it.worker.parts)
            other.metrics.count_refusal("max_connections")
            other.relieve(Level.EXHAUSTED)

            assert other.holder.current.version != it.holder.current.version
            assert not list(other.path.clusters)
            assert other.readiness.pending == {"listener"}
            assert (it.worker.readiness.is_ready, it.worker.capacity.is_shut) == (True, False)
            assert "max_connections" not in refusals(it)
            await other.close()

    run(scenario())


def test_conditions_are_looked_at_when_a_configuration_is_prepared_and_not_on_the_event_loop(tmp_path: Path) -> None:
    looks: list[int] = []
    key = ObjectKey("gateway.networking.k8s.io", "HTTPRoute", "default", "other")

    class Looked(RouteStatus):
        def conditions_by_place(self) -> Iterator[Placed]:
            looks.append(threading.get_ident())
            yield key, "", "Accepted", True

    async def scenario() -> None:
        async with Setting().mesh(tmp_path) as it:
            snapshot = replace(it.holder.current, version="next", statuses=(Looked(key, 1, ()),))

            await asyncio.to_thread(it.worker.prepare, snapshot)
            it.worker.put_in_force(snapshot)
            it.worker.put_in_force(replace(snapshot, version="only endpoints"))

            assert len(looks) == 1
            assert looks[0] != threading.get_ident()
            assert it.worker.transitions.since(key, "", "Accepted") != NEVER

    run(scenario())


def test_only_assemble_wires_a_worker() -> None:
    """A second place would soon differ: a mesh that was wired for tests lacked the loops of the program."""
    root = Path(__file__).parents[3]
    files = (file for folder in ("waypoint", "tests", "bench") for file in (root / folder).rglob("*.py"))
    calls = {
        (str(file.relative_to(root)), node.func.id)
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"DataPath", "Terminator"}
    }

    assert calls == {("waypoint/process/worker.py", "DataPath"), ("waypoint/process/worker.py", "Terminator")}


def refusals(it: Mesh) -> str:
    lines = it.metrics.render("")[0].decode().splitlines()
    return "\n".join(line for line in lines if line.startswith("pywaypoint_refused_total"))
