import asyncio
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest

from l4.net.pressure import Level, level_after, memory_limit, private, resident, watch
from tests.kit.virtual_time import run_virtually


@pytest.mark.parametrize(
    ("level", "used", "after"),
    [
        (Level.CALM, 84, Level.CALM),
        (Level.CALM, 85, Level.TIGHT),
        (Level.CALM, 98, Level.EXHAUSTED),
        (Level.TIGHT, 80, Level.TIGHT),
        (Level.TIGHT, 79, Level.CALM),
        (Level.TIGHT, 92, Level.SCARCE),
        (Level.SCARCE, 87, Level.SCARCE),
        (Level.SCARCE, 86, Level.TIGHT),
        (Level.SCARCE, 79, Level.CALM),
        (Level.EXHAUSTED, 92, Level.EXHAUSTED),
        (Level.EXHAUSTED, 91, Level.SCARCE),
        (Level.EXHAUSTED, 0, Level.CALM),
    ],
)
def test_a_level_begins_at_its_share_and_is_left_a_little_below(level: Level, used: int, after: Level) -> None:
    assert level_after(level, used, 100) is after


def test_the_configured_limit_counts() -> None:
    assert memory_limit(1 << 20) == 1 << 20


def test_this_process_has_some_memory() -> None:
    assert resident() > 1 << 20


def test_pages_of_files_are_not_private(tmp_path: Path) -> None:
    size = 32 << 20
    file = tmp_path / "file"
    file.write_bytes(bytes(size))
    before = private()
    with file.open("rb") as opened, mmap(opened.fileno(), size, access=ACCESS_READ) as pages:
        resident_before = resident()
        assert sum(pages[:: 1 << 12]) == 0  # each page is read

        assert resident() - resident_before > size * 0.9
        assert private() - before < size * 0.1
    own = bytearray(b"x" * size)
    assert private() - before > size * 0.9
    assert private() < resident()
    del own


def test_a_limit_that_changes_counts_at_once() -> None:
    async def scenario() -> None:
        limits, told = iter([100, 100, 50, 100]), []
        task = asyncio.create_task(watch(lambda: next(limits), told.append, lambda: 45))

        await asyncio.sleep(3.5)
        task.cancel()

        assert told == [Level.TIGHT]

    run_virtually(scenario())


def test_a_level_is_told_while_it_lasts_and_once_when_it_is_over() -> None:
    async def scenario() -> None:
        used, told = iter([10, 90, 90, 10, 10]), []
        task = asyncio.create_task(watch(lambda: 100, told.append, lambda: next(used)))

        await asyncio.sleep(5.5)
        task.cancel()

        assert told == [Level.TIGHT, Level.TIGHT, Level.CALM]

    run_virtually(scenario())
