"""A process that this one starts, without standing still until the new program runs.

uvloop starts a process by fork, lets the child run Python's handlers first, and blocks until the child has executed its
program; the interpreter's lock is held meanwhile. A child that never got there stopped the whole parent, even its log.
`subprocess` uses vfork: between it and the new program run a few system calls, and nothing that can wait for a lock.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress


class Spawned:
    """A running program, in a session of its own. Create it inside the event loop. Raises OSError if it cannot start.

    It reads `told` from standard input. It may take its time: nobody waits for it to read. It inherits `descriptors`.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], told: bytes, descriptors: Sequence[int]
    ) -> None:
        with os.fdopen(os.memfd_create("told"), "w+b") as file:
            file.write(told)
            file.seek(0)
            self._process = subprocess.Popen(
                command, env=environment, stdin=file, pass_fds=descriptors, start_new_session=True
            )
        self._loop = asyncio.get_running_loop()
        self._status: asyncio.Future[int] = self._loop.create_future()
        self._ended = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._ended, self._reap)

    async def wait(self) -> int:
        """Return the exit status once it has ended; of a signal, the negative number."""
        return await asyncio.shield(self._status)

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _reap(self) -> None:
        self._loop.remove_reader(self._ended)
        os.close(self._ended)
        self._status.set_result(self._process.wait())
