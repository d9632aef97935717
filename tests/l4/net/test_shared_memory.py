"""Memory and its lock, between real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from l4.net import shared_memory
from l4.net.shared_memory import SharedMemory

HOLDS = """
import sys
from l4.net.shared_memory import SharedMemory
memory = SharedMemory(int(sys.argv[1]))
with memory.locked() as is_held:
    memory.view[0] = 7
    print(is_held, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def memory() -> Iterator[tuple[int, SharedMemory]]:
    descriptor = shared_memory.create(4096)
    it = SharedMemory(descriptor)
    yield descriptor, it
    it.close()


def another(descriptor: int) -> "subprocess.Popen[str]":
    """A process that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(descriptor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[descriptor],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_who_does_not_get_the_lock_is_told_so_soon_and_gets_it_when_the_other_has_let_go(
    memory: tuple[int, SharedMemory],
) -> None:
    descriptor, it = memory
    with another(descriptor) as process:
        started = time.monotonic()
        with it.locked() as is_held:
            assert not is_held
        assert time.monotonic() - started < 1
        process.communicate()

    with it.locked() as is_held:
        assert is_held
    assert it.view[0] == 7


def test_a_process_that_is_killed_gives_the_lock_back(memory: tuple[int, SharedMemory]) -> None:
    descriptor, it = memory
    with another(descriptor) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()

    with it.locked() as is_held:
        assert is_held


def test_the_lock_is_given_back_after_an_error(memory: tuple[int, SharedMemory]) -> None:
    descriptor, it = memory
    with pytest.raises(ZeroDivisionError), it.locked():
        raise ZeroDivisionError
    with another(descriptor) as process:
        process.communicate()
