"""Worker processes: started, watched, replaced, and given the connections that this process accepts.

    clients ──▶ listening sockets ──▶ the worker with the least to do

A worker that ends, takes too long to start, or whose event loop stands still for `_HANGING_SECONDS`, is replaced. Until
then the others serve. A worker that says nothing for `_SILENT_SECONDS` gets no connection and no question while others
say something.
HBONE connections live long and carry many requests, so the kernel's choice by hash would leave workers without work.
"""

import asyncio
import logging
import os
import pickle
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from l4.config.settings import Settings
from l4.hbone.settings import HboneSettings
from l4.net import pressure, shared_memory
from l4.net.listener import Listener, leave_to_successor
from l4.net.passing import Passer, passage
from l4.net.shared_memory import SharedMemory
from l4.net.sockets import Socket
from l4.net.tasks import Tasks
from l4.readiness import Readiness
from waypoint.http.settings import HttpSettings
from waypoint.process.channel import Answerer, Channel, connect
from waypoint.process.options import RunOptions
from waypoint.process.remote import Load, RemoteWorker
from waypoint.process.spawned import Spawned
from waypoint.replica import Replica

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_LATE_SECONDS = 1.0
"""Time after which a worker that should have told its load twice gets a new connection last."""
_SILENT_SECONDS = 2.0
_HANGING_SECONDS = 15.0
_END_SECONDS = 5.0
"""Time beyond the drain after which a worker is killed."""
_REST_SECONDS = 1.0
"""Time after the end of a worker's process in which its last notes are received."""
_NONE = "workers"
_UNKNOWN = Load(is_ready=False, connections=0, exchanges=0, busy=0.0)


class WorkerEnded(Exception):
    """A worker process ended. It has written the reason to standard error."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker process is told at its start."""

    number: int
    workers: int
    options: RunOptions
    environment: Mapping[str, str]


def share_of(environment: Mapping[str, str], settings: Settings, count: int) -> dict[str, str]:
    """Return the environment of one of `count` workers: limits of the replica become its share of them, except for that
    of memory, of which `Replica.share_of_memory` knows the share."""
    return {
        **environment,
        "DRAIN_DELAY_SECONDS": "0",  # the supervisor waits, and passes connections on meanwhile
        "PYTHONHASHSEED": str(secrets.randbelow(1 << 32)),  # equal digests in all workers, which nobody can foresee
        "MAX_CONNECTIONS": str(-(-settings.of(HboneSettings).max_connections // count)),
        "MAX_EXCHANGES": str(-(-settings.of(HttpSettings).max_exchanges // count)),
    }


@dataclass(eq=False)
class WorkerProcess:
    """`given` are the connections it got since it last told its load."""

    process: Spawned
    channel: Channel
    answering: RemoteWorker
    passers: tuple[Passer, ...]
    heard_at: float
    load: Load = _UNKNOWN
    given: int = 0
    killed_because: str = ""

    @property
    def is_starting(self) -> bool:
        """Whether it has not told its load yet, which it does as soon as it has its configuration."""
        return self.load is _UNKNOWN

    def rank(self, now: float) -> tuple[bool, float, int]:
        """The lower, the less it has to do."""
        is_late = now - self.heard_at > _LATE_SECONDS
        return is_late, round(self.load.busy, 1) + self.given / 10, self.load.connections + self.given


class Workers:
    """`join` and `leave` learn of each worker that begins to serve, and of its end.

    `listening` are the sockets for HBONE and, if there is one, for the PROXY protocol. `readiness` lacks each worker
    until it has served once, and `workers` while none serves. `on_first` is called when the first one serves. A worker
    may take `start_seconds` to start. `answerer` answers the workers' questions; without it they have none.
    """

    def __init__(
        self,
        count: int,
        options: RunOptions,
        environment: Mapping[str, str],
        listening: Sequence[Socket],
        on_first: Callable[[], None],
        *,
        join: Callable[[RemoteWorker], None],
        leave: Callable[[RemoteWorker], None],
        start_seconds: float,
        readiness: Readiness,
        tasks: Tasks,
        on_refused: Callable[[str], None],
        answerer: Answerer | None = None,
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises WorkerEnded if a worker ends before any has served."""
        self._count = count
        self._memory = shared_memory.create(Replica.size(count))
        self._replica = Replica(SharedMemory(self._memory), 0, count)
        self._replica.supervisor_bytes = pressure.resident()
        self._join = join
        self._leave = leave
        self._start_seconds = start_seconds
        self._options = options
        self._environment = environment
        self._on_first = on_first
        self._readiness = readiness
        self._readiness.pending |= {_name(number) for number in range(1, count + 1)}
        self._tasks = tasks
        self._answerer = answerer
        self._running: list[WorkerProcess] = []
        self._serving: list[WorkerProcess] = []
        self._has_served = False
        self._is_draining = False
        self._listeners = [
            Listener(sock, partial(self._give, index), on_refused, is_paused=True)
            for index, sock in enumerate(listening)
        ]
        self._open_or_shut()
        for number in range(1, count + 1):
            tasks.keep(_name(number), partial(self._work, number))
        tasks.keep("looking after workers", self._look)

    def tell(self, name: str, *arguments: object) -> None:
        """Send a note to each worker."""
        for it in self._running:
            it.channel.note(name, *arguments)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to each worker."""
        for it in self._running:
            it.process.signal(number)

    def reopen(self) -> None:
        """Let each worker reopen its access log."""
        self.signal(signal.SIGUSR1)

    async def drain(self, seconds: float) -> None:
        """Pass on what the kernel has accepted, let workers finish for `seconds`, then kill them."""
        self._is_draining = True
        await leave_to_successor(self._listeners)
        for listener in self._listeners:
            listener.finish()
        self.signal(signal.SIGTERM)
        waiting = asyncio.gather(*(it.process.wait() for it in self._running))
        try:
            await asyncio.wait_for(asyncio.shield(waiting), seconds + _END_SECONDS)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await waiting

    async def _work(self, number: int) -> None:
        """Start a worker and listen to it. Raises WorkerEnded when it ends."""
        it = await self._begin(number)
        self._running.append(it)
        it.channel.note("level", logging.getLevelName(logging.getLogger().level))  # an operator may have changed it
        receiving = self._tasks.spawn(it.channel.run())
        try:
            status = await it.process.wait()
            self._replica.forget(number - 1)
            await asyncio.wait((receiving,), timeout=_REST_SECONDS)
        finally:
            receiving.cancel()
            self._gone(it)
        if self._is_draining:
            await asyncio.get_running_loop().create_future()  # until cancelled: nothing is started again
        words = f"{_name(number)} ended with status {status}{it.killed_because and f': {it.killed_because}'}"
        if not self._has_served and not self.failed.done():
            self.failed.set_exception(WorkerEnded(f"{words} before any worker was ready"))
        raise WorkerEnded(words)

    async def _begin(self, number: int) -> WorkerProcess:
        name = _name(number)
        with ExitStack() as ours, ExitStack() as theirs:
            here, there = socket.socketpair()
            ours.callback(here.close)
            theirs.callback(there.close)
            passers, descriptors = [], [there.fileno(), self._memory]
            for _ in self._listeners:
                passer, sock = passage()
                ours.callback(passer.close)
                theirs.callback(sock.close)
                passers.append(passer)
                descriptors.append(sock.fileno())
            process = Spawned(
                (sys.executable, "-P", "-m", "waypoint.process.child", *map(str, descriptors)),
                {**self._environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                pickle.dumps(Start(number, self._count, self._options, self._environment)),
                descriptors,
            )
            channel = await connect(
                here,
                name,
                lambda noted, rest: self._noted(it, noted, rest),
                self._answerer,
                lambda: self._serves_no_more(it),
            )
            ours.pop_all()  # without an error, they live as long as the worker
        answering = RemoteWorker(name, channel.ask, channel.note)
        it = WorkerProcess(process, channel, answering, tuple(passers), asyncio.get_running_loop().time())
        return it

    def _gone(self, it: WorkerProcess) -> None:
        it.channel.close()
        for passer in it.passers:
            passer.close()
        self._running.remove(it)
        self._serves_no_more(it)

    def _serves_no_more(self, it: WorkerProcess) -> None:
        if it in self._serving:
            self._serving.remove(it)
            self._leave(it.answering)
        self._readiness.concern(_silence(it), "")
        self._open_or_shut()

    def _noted(self, it: WorkerProcess, name: str, rest: tuple[Any, ...]) -> None:
        match name, *rest:
            case "load", Load() as load:
                it.load, it.given, it.heard_at = load, 0, asyncio.get_running_loop().time()
                if it.answering.is_silent:
                    self._answers_again(it)
                if load.is_ready and it not in self._serving:
                    self._serve(it)
            case "records", list(records):
                it.answering.seen(records)
            case "ended", tuple(metrics):
                it.answering.ended(metrics)

    def _serve(self, it: WorkerProcess) -> None:
        if not self._has_served:
            self._has_served = True
            self._on_first()
        self._serving.append(it)
        self._join(it.answering)
        self._readiness.done(it.answering.name)
        self._open_or_shut()

    def _is_silent(self, it: WorkerProcess) -> None:
        it.answering.is_silent = True
        sentence = f"{it.answering.name} has said nothing for {_SILENT_SECONDS:g} s"
        self._readiness.concern(_silence(it), f"{sentence}; what is shown of it is what it told last")
        log.warning("%s: new connections go to others, and it is replaced after %g s", sentence, _HANGING_SECONDS)
        self._open_or_shut()

    def _answers_again(self, it: WorkerProcess) -> None:
        it.answering.is_silent = False
        self._readiness.concern(_silence(it), "")
        log.warning("%s answers again", it.answering.name)
        self._open_or_shut()

    def _open_or_shut(self) -> None:
        """While no worker serves, new connections wait in the kernel's queue."""
        is_served = any(not it.answering.is_silent for it in self._serving)
        for listener in self._listeners:
            if is_served:
                listener.resume()
            else:
                listener.pause()
        if is_served:
            self._readiness.done(_NONE)
        else:
            self._readiness.pending.add(_NONE)

    def _give(self, index: int, sock: socket.socket, address: tuple[str, int]) -> None:
        with sock:
            now = asyncio.get_running_loop().time()
            for it in sorted(self._serving, key=lambda worker: worker.rank(now)):
                if it.passers[index].give(sock):
                    it.given += 1
                    return
        log.warning("the connection from %s was closed, because no worker takes one", address[0])

    async def _look(self) -> None:
        """Find workers that say nothing, and kill those that do not start, or whose event loops stand still. Tell them
        how much memory is left for them."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LOOK_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)
            late = loop.time() - due
            self._replica.supervisor_bytes = pressure.resident()
            for it in self._running:
                it.heard_at += late  # while this process stood still, too, as in a paused container, it heard nobody
                silent = loop.time() - it.heard_at
                if it in self._serving and silent > _SILENT_SECONDS and not it.answering.is_silent:
                    self._is_silent(it)
                seconds = self._start_seconds if it.is_starting else _HANGING_SECONDS
                if silent > seconds and not it.killed_because:
                    what = "has not started within" if it.is_starting else "has said nothing for"
                    it.killed_because = f"it {what} {seconds:g} s"
                    log.error("%s %s %g s; it is killed", it.answering.name, what, seconds)
                    it.process.signal(signal.SIGKILL)


def _name(number: int) -> str:
    return f"worker {number}"


def _silence(it: WorkerProcess) -> str:
    """Return the subject of the concern about it."""
    return f"silence of {it.answering.name}"
