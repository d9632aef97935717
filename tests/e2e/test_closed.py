"""Denied access stays denied: a real waypoint, its files, and a client that sends requests all the time."""

import asyncio
import os
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

T = TypeVar("T")

REQUEST = b"GET /secret HTTP/1.1\r\nHost: app\r\n\r\n"
POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: secrets
spec:
  targetRefs:
  - kind: Service
    name: app
  action: DENY
  rules:
  - to:
    - operation:
        paths: ["/secret*"]
"""
OPEN = POLICY.replace("/secret*", "/other")
BOUND_BY_PERMISSIONS = (
    ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)
"""Root may read everything unless it has given that up."""


class Asking:
    """Asks for what is denied on a connection that stays, and on new ones; by the status of the answers."""

    def __init__(self, it: WaypointProcess) -> None:
        self.it = it
        self.statuses: Counter[str] = Counter()

    async def stay(self) -> None:
        reader, writer = await self.it.open()
        while True:
            writer.write(REQUEST)
            self.statuses[(await _status(reader))] += 1
            await asyncio.sleep(0.005)

    async def a_while(self, seconds: float = 1.5) -> None:
        """For as long as several looks at the files take, and for requests enough."""
        enough, end = self.statuses.total() + 20, time.monotonic() + seconds
        await settled(lambda: time.monotonic() >= end and self.statuses.total() >= enough, 20)

    async def concerns(self, text: str, *, are_there: bool = True) -> None:
        """Until readiness says so, or no longer does."""
        await until(lambda: self._says(text), are_there)

    async def _says(self, text: str) -> bool:
        return text in (await self.it.readiness())[1]


async def until(ask: Callable[[], Awaitable[T]], wanted: T) -> None:
    async with asyncio.timeout(20):
        while await ask() != wanted:  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.02)


async def _status(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length"))
    await reader.readexactly(length)
    return head.split()[1]


@asynccontextmanager
async def asking(folder: Path, policies: Path, **environment: str) -> AsyncIterator[Asking]:
    async with (
        waypoint_process(folder, more=[policies], prefix=BOUND_BY_PERMISSIONS, **environment) as it,
        origin(it.pod, answering()),
        asyncio.TaskGroup() as tasks,
    ):
        asked = Asking(it)
        task = tasks.create_task(asked.stay())
        try:
            await asked.a_while(0.1)
            yield asked
        finally:
            task.cancel()
    assert asked.statuses.keys() == {"403"}


@pytest.mark.parametrize("closed", ["policies", "policies/deep"])
def test_a_folder_that_may_not_be_listed_loses_no_policy(tmp_path: Path, closed: str) -> None:
    async def scenario() -> None:
        (tmp_path / "policies/deep").mkdir(parents=True)
        (tmp_path / "policies/deep/p.yaml").write_text(POLICY)
        async with asking(tmp_path, tmp_path / "policies") as asked:
            (tmp_path / closed).chmod(0)
            await asked.concerns(f"{tmp_path}/{closed}: cannot be listed: Permission denied")
            await asked.a_while()
            (tmp_path / closed).chmod(0o755)
            await asked.concerns("cannot be listed", are_there=False)
            await asked.a_while()
            assert (await asked.it.readiness())[0] == 200

    run(scenario(), 60)


def test_a_process_without_descriptors_loses_no_policy(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies/p.yaml").write_text(POLICY)
        # with a limit, memory is watched once a second, which takes a descriptor
        async with asking(tmp_path, tmp_path / "policies", MEMORY_LIMIT_BYTES=str(1 << 40)) as asked:
            pid = asked.it.process.pid
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
            await asked.a_while()
            (tmp_path / "policies/new.yaml").write_text(POLICY.replace("name: secrets", "name: more"))
            await asked.a_while()
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            await asked.a_while()
            await asked.concerns("watching memory failed and is being restarted")
            await asked.concerns("cannot be", are_there=False)
            assert (await asked.it.readiness())[0] == 200
            assert 'pywaypoint_loop_failures_total{loop="watching memory"}' in await asked.it.metrics()

    run(scenario(), 60)


def test_a_writer_that_truncates_first_opens_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "p.yaml"
        path.write_text(POLICY)
        async with asking(tmp_path, path) as asked:
            for cut in (0, len("apiVersion: sec"), POLICY.index("  action"), POLICY.index("  rules"), len(POLICY) - 5):
                path.write_text(POLICY[:cut])
                await asked.a_while(0.8)
                path.write_text(POLICY)
                await asked.a_while(0.2)
            path.write_text("")
            await asked.concerns("is empty; the file's last valid content stays live")
            await asked.a_while(2.5)

    run(scenario(), 60)


def test_an_edit_that_opens_is_followed_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "p.yaml"
        path.write_text(POLICY)
        async with (
            waypoint_process(tmp_path, more=[path]) as it,
            origin(it.pod, answering()),
        ):
            reader, writer = await it.open()

            async def answer() -> str:
                writer.write(REQUEST)
                return await _status(reader)

            before = await answer()
            path.write_text(OPEN)
            await until(answer, "200")

            assert before == "403"
            writer.close()

    run(scenario(), 60)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (POLICY.replace("rules:", "rules: ["), "not YAML"),
        (POLICY[: POLICY.index("metadata")], "metadata.name is missing"),
        (POLICY.replace("AuthorizationPolicy", "Authorizationpolicy"), "did you mean AuthorizationPolicy?"),
        (POLICY.replace("security.istio.io", "security.isto.io"), "did you mean apiVersion: security.istio.io/v1?"),
        (POLICY.replace("  name: secrets", "  name: secrets\n  labels: 7"), "expected `object`"),
        (POLICY.replace("  name: secrets", "  name: secrets\n  name: secrets"), "is repeated"),
        (POLICY.replace("  rules:", "rules:").replace("  - to", "- to"), "move it below spec"),
    ],
)
def test_a_policy_that_was_never_understood_denies_and_keeps_the_waypoint_not_ready(
    tmp_path: Path, text: str, reason: str
) -> None:
    async def scenario() -> None:
        path = tmp_path / "p.yaml"
        path.write_text(text)
        async with waypoint_process(tmp_path, more=[path], ready=503) as it:
            await _closed_until_mended(it, reason, lambda: path.write_text(OPEN))

    run(scenario(), 60)


@pytest.mark.parametrize(
    ("closed", "reason"),
    [
        ("policies/deep/p.yaml", "cannot be read: Permission denied"),
        ("policies/deep", "cannot be listed: Permission denied"),
    ],
)
def test_policies_that_may_not_be_read_deny_and_keep_the_waypoint_not_ready(
    tmp_path: Path, closed: str, reason: str
) -> None:
    async def scenario() -> None:
        path = tmp_path / "policies/deep/p.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(OPEN)
        (tmp_path / closed).chmod(0)
        policies = [tmp_path / "policies"]
        async with waypoint_process(tmp_path, more=policies, prefix=BOUND_BY_PERMISSIONS, ready=503) as it:
            await _closed_until_mended(it, reason, lambda: (tmp_path / closed).chmod(0o755))

    run(scenario(), 60)


async def _closed_until_mended(it: WaypointProcess, reason: str, mend: Callable[[], object]) -> None:
    async with origin(it.pod, answering()):
        asked = Asking(it)
        await asked.concerns(reason)
        reader, writer = await it.open()
        writer.write(REQUEST)
        status = await _status(reader)
        assert "pending: configuration" in (await it.readiness())[1]
        mend()
        await asked.concerns("pending", are_there=False)
        writer.write(REQUEST)

        assert status == "403"
        assert await _status(reader) == "200"
        writer.close()
