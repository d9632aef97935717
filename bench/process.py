"""What a process and its children cost, as the kernel counts it, and their end."""

import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_START_SECONDS = 30
_STOP_SECONDS = 10


@cache
def libraries(python: str) -> dict[str, str]:
    """The environment in which an interpreter finds the libraries: its own, or ours if it has none."""
    has_own = (
        subprocess.run([python, "-c", "import uvloop"], capture_output=True, timeout=_START_SECONDS).returncode == 0
    )
    return {} if has_own else {"PYTHONPATH": sysconfig.get_path("purelib")}


def cpu_seconds(pid: int) -> float:
    """User and system time so far."""
    ticks = 0
    for member in _family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # utime, stime, and both of children that have ended
    return ticks / os.sysconf("SC_CLK_TCK")


def own_cpu_seconds(pid: int) -> float:
    """User and system time so far, without children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in _family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def pss_mib(pid: int) -> float:
    """Proportional resident memory: of what n processes share, each has 1/n, so that sums are right."""
    texts = (Path(f"/proc/{member}/smaps_rollup").read_text() for member in _family(pid))
    return sum(int(size) for text in texts for size in re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE)) / 1024


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))
