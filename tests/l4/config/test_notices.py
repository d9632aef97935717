import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from l4.config.notices import Notices, Told


@asynccontextmanager
async def listening(*folders: Path) -> AsyncIterator[Notices]:
    notices = Notices.open()
    if notices is None:
        pytest.skip("this system has no inotify")
    try:
        assert not notices.follow([str(it) for it in folders])
        assert notices.follow([str(it) for it in folders])
        yield notices
    finally:
        notices.close()


async def told(notices: Notices) -> Told:
    assert await notices.wait(5)
    return notices.take()


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text("b"),
        lambda file: file.unlink(),
        lambda file: file.chmod(0o600),
        lambda file: file.rename(file.with_name("other.yaml")),
        lambda file: file.with_name("new").rename(file),
    ],
    ids=["written", "removed", "given other rights", "renamed", "replaced"],
)
def test_a_change_of_a_file_is_told(tmp_path: Path, change: Callable[[Path], object]) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a")
    file.with_name("new").write_text("c")

    async def scene() -> None:
        async with listening(tmp_path) as notices:
            change(file)

            its = await told(notices)

            assert its.is_all
            assert str(file) in its.paths
            assert not notices.take()
            assert not await notices.wait(0.01)

    run(scene)


def test_a_folder_that_is_followed_no_more_tells_nothing(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()

    async def scene() -> None:
        async with listening(one, other) as notices:
            assert notices.follow([str(other)])
            (one / "a").touch()
            (other / "b").touch()

            assert (await told(notices)).paths == {str(other / "b")}

    run(scene)


def test_a_folder_that_is_removed_and_made_again_is_followed_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    async def scene() -> None:
        async with listening(folder) as notices:
            folder.rmdir()
            assert (await told(notices)).paths == {str(folder)}
            assert not notices.follow([str(folder)])

            folder.mkdir()
            assert not notices.follow([str(folder)])
            assert notices.follow([str(folder)])
            (folder / "a").touch()
            assert (await told(notices)).paths == {str(folder / "a")}

    run(scene)


def test_more_than_the_queue_holds_is_told_as_anything(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the queue is very long here")
    names = [tmp_path / name for name in "ab"]
    for name in names:
        name.touch()

    async def scene() -> None:
        async with listening(tmp_path) as notices:
            for _ in range(limit // 2 + 1):  # the same event twice in a row would be one
                for name in names:
                    name.chmod(0o600)

            assert not (await told(notices)).is_all

    run(scene)


def test_one_folder_by_two_names_is_told_by_one_of_them(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)

    async def scene() -> None:
        async with listening(folder) as notices:
            assert not notices.follow([str(folder), str(link)])
            assert not notices.follow([str(folder), str(link)])

            (folder / "a").touch()

            assert (await told(notices)).paths <= {str(folder / "a"), str(link / "a")}

    run(scene)
