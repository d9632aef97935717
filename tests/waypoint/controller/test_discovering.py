"""From objects to descriptions, as they change."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from l4.config.folder import FolderSource
from l4.discovery.mesh import Mesh
from l4.xds.description import Description
from tests.kit.aio import run
from waypoint.controller.discovering import Discovering

POD = "{{apiVersion: v1, kind: Pod, metadata: {{name: {0}, namespace: default}}, status: {{podIP: {1}}}}}"
UID = "Kubernetes//Pod/default/{}"


class World:
    def __init__(self, path: Path) -> None:
        self.file = path / "pods.yaml"
        self.published: list[Description] = []
        self._is_new = asyncio.Event()
        self.discovering = Discovering(FolderSource((path,), poll_seconds=0.02), Mesh(), self._publish)

    def _publish(self, description: Description) -> None:
        self.published.append(description)
        self._is_new.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - concerns have no event
                await asyncio.sleep(0.01)

    async def next(self) -> Description:
        async with asyncio.timeout(20):
            await self._is_new.wait()
        self._is_new.clear()
        return self.published[-1]


@asynccontextmanager
async def following(path: Path, text: str) -> AsyncIterator[World]:
    it = World(path)
    it.file.write_text(text)
    task = asyncio.create_task(it.discovering.follow())
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await it.discovering.close()


def test_first_everything_then_what_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path, POD.format("a", "10.0.0.1")) as it:
            first = await it.next()
            assert list(first.addresses.changed) == [UID.format("a")]
            assert first.addresses.is_whole
            assert first.policies is not None

            it.file.write_text("\n---\n".join((POD.format("a", "10.0.0.1"), POD.format("b", "10.0.0.2"))))
            second = await it.next()
            assert (list(second.addresses.changed), second.addresses.is_whole) == ([UID.format("b")], False)
            assert second.policies is None

    run(scenario())


def test_nothing_is_described_before_everything_was_understood(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path, "kind: [") as it:
            await it.until(lambda: it.discovering.concern != "")
            assert it.published == []

            it.file.write_text(POD.format("a", "10.0.0.1"))
            assert list((await it.next()).addresses.changed) == [UID.format("a")]
            await it.until(lambda: it.discovering.concern == "")

    run(scenario())


def test_what_is_in_doubt_stays_as_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path, POD.format("a", "10.0.0.1")) as it:
            await it.next()

            it.file.write_text("kind: [")
            await it.until(lambda: it.discovering.concern != "")
            assert all(not its.addresses.gone and not its.addresses.is_whole for its in it.published[1:])

    run(scenario())
