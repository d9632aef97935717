"""Concurrent test processes never share an address, whatever their process ids."""

import subprocess
import sys

import pytest

ASK = """
import os, sys
os.getpid = lambda: {pid}
from tests.kit.mesh import address
print(*(address() for _ in range({count})), flush=True)
sys.stdin.read()
"""


def _process(pid: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ASK.format(pid=pid, count=count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("pids", "count"), [((7, 2_507, 5_007), 20), ((99, 199), 2_600)], ids=["equal remainders", "more than a block"]
)
def test_processes_beside_each_other_have_addresses_of_their_own(pids: tuple[int, ...], count: int) -> None:
    processes = [_process(pid, count) for pid in pids]
    try:
        lines = [process.stdout.readline() for process in processes if process.stdout is not None]
    finally:
        for process in processes:
            process.communicate("")

    addresses = " ".join(lines).split()
    assert len(addresses) == len(pids) * count
    assert len(set(addresses)) == len(addresses)
