import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.mesh import settled
from waypoint.mesh.supervisor import Launch, Supervisor, VitalProgramFailed

SERVER = """
import http.server, sys
http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


class Watch:
    """A supervisor, and what it has said."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.said: list[str] = []
        self._event = asyncio.Event()
        self.supervisor = Supervisor(tasks, self._hear, self._event.set)

    def _hear(self, sentence: str) -> None:
        self.said.append(sentence)
        self._event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._event.wait()
            self._event.clear()


@asynccontextmanager
async def watch() -> AsyncIterator[Watch]:
    async with asyncio.TaskGroup() as tasks:
        watch = Watch(tasks)
        yield watch
        await watch.supervisor.stop(watch.supervisor.wanted)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def python(folder: Path, code: str, *args: str, **fields: object) -> Launch:
    return Launch(
        argv=(sys.executable, "-c", code, *args),
        directory=folder,
        log=folder / "logs" / "program.log",
        **fields,  # type: ignore[arg-type]
    )


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


async def written(log: Path, count: int) -> list[str]:
    """The lines of a file, once another process has written so many."""
    while len(lines(log)) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return lines(log)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_program_is_ready_once_it_accepts_connections(tmp_path: Path) -> None:
    port = free_port()

    async def scenario() -> None:
        async with watch() as it:
            it.supervisor.apply({"web": python(tmp_path, SERVER, "127.0.0.1", str(port), ready=("127.0.0.1", port))})
            assert it.supervisor.ready == frozenset()

            await it.until(lambda: it.supervisor.ready == {"web"})

            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()

    run(scenario())


def test_a_readiness_path_must_answer_200(tmp_path: Path) -> None:
    (tmp_path / "ready").write_text("ready")

    def server(ready_path: str) -> Launch:
        port = free_port()
        return python(tmp_path, SERVER, "127.0.0.1", str(port), ready=("127.0.0.1", port), ready_path=ready_path)

    async def scenario() -> None:
        async with watch() as it:
            it.supervisor.apply({"good": server("/ready"), "bad": server("/missing")})
            await it.until(lambda: "good" in it.supervisor.ready)

            assert it.supervisor.ready == {"good"}

    run(scenario())


def test_a_crash_is_one_line_with_the_last_words_and_a_new_start(tmp_path: Path) -> None:
    code = "import sys; print('first'); sys.exit('no such book')"

    async def scenario() -> None:
        async with watch() as it:
            it.supervisor.apply({"default/details-0": python(tmp_path, code)})

            await it.until(lambda: len(it.said) == 2)

            first, second = it.said
            log = tmp_path / "logs" / "program.log"
            assert "\n" not in first
            assert first.startswith("default/details-0 exited with status 1, saying: ")
            assert "no such book" in first
            assert first.endswith(f"; restarting in 0.5 s; its log is {log}")
            assert "; restarting in 1 s" in second

    run(scenario())


def test_a_program_that_does_not_exist_is_said_in_one_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watch() as it:
            it.supervisor.apply({"web": Launch(("/nowhere/program",), tmp_path, tmp_path / "log")})

            await it.until(lambda: bool(it.said))

            assert it.said[0].startswith(
                f"web cannot be started as /nowhere/program in {tmp_path}: No such file or directory"
            )

    run(scenario())


def test_a_vital_program_that_fails_at_once_ends_everything(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watch() as it:
            it.supervisor.apply(
                {"ztunnel": python(tmp_path, "raise SystemExit(2)", ready=("127.0.0.1", 1), is_vital=True)}
            )
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as failure:
        run(scenario())

    assert failure.group_contains(VitalProgramFailed, match="ztunnel exited with status 2")


def test_only_what_changed_is_started_again(tmp_path: Path) -> None:
    code = "import os, sys, time; print(os.getpid(), sys.argv[1], flush=True); time.sleep(60)"

    def launch(name: str, word: str, variable: str = "") -> Launch:
        return Launch((sys.executable, "-c", code, word), tmp_path, tmp_path / name, environment={"VARIABLE": variable})

    async def scenario() -> None:
        async with watch() as it:
            it.supervisor.apply({"same": launch("same", "a"), "changed": launch("changed", "a")})
            await written(tmp_path / "same", 1)
            await written(tmp_path / "changed", 1)

            it.supervisor.apply({"same": launch("same", "a", "new"), "changed": launch("changed", "b")})
            pids = [int(line.split()[0]) for line in await written(tmp_path / "changed", 2)]

            assert not is_alive(pids[0])
            assert is_alive(pids[1])
            assert len(await written(tmp_path / "same", 1)) == 1
            assert it.said == []

    run(scenario())


def test_stopping_kills_what_ignores_sigterm_and_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waypoint.mesh.supervisor.STOP_SECONDS", 0.3)
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""

    async def scenario() -> None:
        async with watch() as it:
            it.supervisor.apply({"stubborn": python(tmp_path, code)})
            said = await written(tmp_path / "logs" / "program.log", 1)

            await it.supervisor.stop({"stubborn"})

            await settled(lambda: not is_alive(int(said[0])))  # nobody waits for it, and death takes a moment

    run(scenario())


def test_no_program_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from waypoint.mesh.supervisor import Launch, Supervisor

async def main():
    async with asyncio.TaskGroup() as tasks:
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        folder = Path({str(tmp_path)!r})
        launch = Launch((sys.executable, "-c", code), folder, folder / "log")
        Supervisor(tasks, print, lambda: None).apply({{"child": launch}})

asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    child = int(run(written(tmp_path / "log", 1))[0])

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    while is_alive(child):
        time.sleep(0.01)
