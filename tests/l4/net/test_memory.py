import asyncio
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from l4.net.memory import give_back_unused
from tests.kit.virtual_time import run_virtually

MIB = 1 << 20


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_what_lies_between_things_still_used_is_given_back() -> None:
    async def scenario() -> None:
        pieces = [bytes(4000) for _ in range(16_000)]
        last = pieces.pop()
        pieces.clear()
        before = rss()
        task = asyncio.create_task(give_back_unused())

        await asyncio.sleep(60)

        assert rss() < before - 32 * MIB
        assert not task.done()
        assert last

    run_virtually(scenario())


_FAULTS = """
import resource, sys
from l4.net import memory
if sys.argv[1] == "kept":
    memory.keep_for_buffers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(1000):
    buffers = [bytearray(250_000) for _ in range(8)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_buffers_of_bulk_transfers_cost_no_page_faults() -> None:
    faults = {
        how: int(
            subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, check=True, timeout=30).stdout
        )
        for how in ("default", "kept")
    }

    assert faults["kept"] < faults["default"] / 10, faults
