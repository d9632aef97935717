"""Run programs: report readiness, restart crashed ones, and leave none behind. Linux only.

Each child leads its own process group: Ctrl-C in the terminal reaches only us, and stopping a child also stops what it
started. If we die, the kernel kills it (PR_SET_PDEATHSIG). Its output goes to a file; a crash is reported in one line
with its last output.
"""

import asyncio
import ctypes
import os
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process, create_subprocess_exec
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from waypoint.mesh.probes import accepts, get

FIRST_PAUSE_SECONDS = 0.5
"""Delay before the first restart; doubled with each crash."""
MAX_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""After running this long, the next crash counts as the first."""
SLOW_START_SECONDS = 30.0
"""Report a program that is not ready after this time."""
STOP_SECONDS = 5.0
"""Time between SIGTERM and SIGKILL."""

_PROBE_PAUSE_SECONDS = 0.1
_LAST_WORDS_BYTES = 2048
_LAST_WORDS_LINES = 3
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


class VitalProgramFailed(Exception):
    """A vital program ended before it was ever ready. A restart would not help."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to run. If two are equal, the running program is kept, and gets a new environment at its next start.

    `ready` is where the program accepts connections once it is up, or None if running is enough. With `ready_path`, an
    HTTP GET of that path must also return 200.
    """

    argv: tuple[str, ...]
    directory: Path
    log: Path
    ready: tuple[str, int] | None = None
    ready_path: str = ""
    shows_output: bool = False
    is_vital: bool = False
    revision: object = None
    """Anything else whose change requires a restart."""
    environment: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(slots=True, eq=False)
class _Child:
    launch: Launch
    is_ready: bool = False
    was_ready: bool = False


class Supervisor:
    """Keeps the wanted programs running, in tasks of the given group.

    `report` receives sentences for users; `changed` is called when `ready` has changed. If a vital program fails, the
    group ends with VitalProgramFailed.
    """

    def __init__(self, tasks: asyncio.TaskGroup, report: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._group = tasks
        self._report = report
        self._changed = changed
        self._children: dict[str, _Child] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def wanted(self) -> frozenset[str]:
        return frozenset(self._children)

    @property
    def ready(self) -> frozenset[str]:
        return frozenset(name for name, child in self._children.items() if child.is_ready)

    def apply(self, wanted: Mapping[str, Launch]) -> None:
        """Start new programs, stop removed ones, restart changed ones, and keep the rest."""
        for name in [name for name, child in self._children.items() if wanted.get(name) != child.launch]:
            self._dismiss(name)
        for name, launch in wanted.items():
            if child := self._children.get(name):
                child.launch = launch
            else:
                child = self._children[name] = _Child(launch)
                self._tasks[name] = self._group.create_task(self._keep_running(name, child, self._tasks.get(name)))

    async def stop(self, names: Iterable[str]) -> None:
        """Stop programs and wait for their end: SIGTERM, and SIGKILL after STOP_SECONDS."""
        stopping = [self._dismiss(name) for name in self._children.keys() & set(names)]
        if stopping:
            await asyncio.wait(stopping)

    def _dismiss(self, name: str) -> asyncio.Task[None]:
        del self._children[name]
        self._tasks[name].cancel()
        return self._tasks[name]

    async def _keep_running(self, name: str, child: _Child, predecessor: asyncio.Task[None] | None) -> None:
        if predecessor:
            await asyncio.wait([predecessor])
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = loop.time()
            ending = await self._run_once(name, child)
            if child.launch.is_vital and not child.was_ready:
                raise VitalProgramFailed(f"{name} {ending}")
            if loop.time() - started > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._report(f"{name} {ending}; restarting in {pause:g} s; its log is {child.launch.log}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    async def _run_once(self, name: str, child: _Child) -> str:
        """Run the program once. Returns how it ended."""
        launch = child.launch
        try:
            launch.log.parent.mkdir(parents=True, exist_ok=True)
            with launch.log.open("ab") as log:
                said_before = log.tell()
                process = await _spawn(launch, log.fileno())
        except OSError as error:
            return f"cannot be started as {launch.argv[0]} in {launch.directory}: {error.strerror}"
        try:
            async with asyncio.TaskGroup() as tasks:
                probing = tasks.create_task(self._await_ready(name, child))
                status = await process.wait()
                probing.cancel()
        finally:
            child.is_ready = False
            self._changed()
            await _end(process)
        return f"{_describe(status)}{_last_words(launch.log, said_before)}"

    async def _await_ready(self, name: str, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        slow_at: float | None = loop.time() + SLOW_START_SECONDS
        while not await _is_ready(child.launch):
            await asyncio.sleep(_PROBE_PAUSE_SECONDS)
            if slow_at and loop.time() > slow_at:
                slow_at = None
                self._report(f"{name} is still not ready after {SLOW_START_SECONDS:g} s; see {child.launch.log}")
        child.is_ready = child.was_ready = True
        self._changed()


async def _spawn(launch: Launch, log: int) -> Process:
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return await create_subprocess_exec(
        *launch.argv,
        cwd=launch.directory,
        env=dict(launch.environment),
        stdin=DEVNULL,
        stdout=None if launch.shows_output else log,
        stderr=log if launch.shows_output else STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


async def _end(process: Process) -> None:
    """Stop the whole process group, with SIGTERM first. If the leader has ended, others may remain."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _is_ready(launch: Launch) -> bool:
    if launch.ready is None:
        return True
    if launch.ready_path:
        return await get(launch.ready, launch.ready_path) is not None
    return await accepts(launch.ready)


def _describe(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"


def _last_words(log: Path, since: int) -> str:
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(since, end - _LAST_WORDS_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return f", saying: {' | '.join(lines[-_LAST_WORDS_LINES:])}" if lines else ", saying nothing"
