import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from l4.config.sources import Documents, FolderSource
from l4.net.tasks import Tasks
from tests.kit.aio import run


def pod(name: str, **fields: object) -> str:
    extra = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n{extra}---\n"


def names(documents: Documents) -> list[str]:
    return [document.key.name for document in documents.documents]


@asynccontextmanager
async def watching(source: FolderSource) -> AsyncIterator["asyncio.Queue[Documents]"]:
    seen: asyncio.Queue[Documents] = asyncio.Queue()
    task = asyncio.get_running_loop().create_task(source.watch(lambda documents: documents, seen.put_nowait))
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_a_folder_is_read_with_everything_below_it_but_hidden_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    for place in ("b.yaml", "a.yml", "deep/er/c.json", ".hidden.yaml", ".git/d.yaml", "notes.txt"):
        (tmp_path / place).write_text(pod(Path(place).stem.strip(".")))

    documents = FolderSource([tmp_path]).load()

    assert names(documents) == ["a", "b", "c"]
    assert not documents.problems


def test_a_later_path_overrides_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(pod("a", x=1) + pod("b", x=1))
    (tmp_path / "second.yaml").write_text(pod("a", x=2))

    documents = FolderSource([tmp_path / "first.yaml", tmp_path / "second.yaml"]).load()

    assert [document.content["x"] for document in documents.documents] == [2, 1]
    assert not documents.problems


def test_the_same_object_twice_in_one_path_is_a_problem_and_the_first_stays(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(pod("a", x=1))
    (tmp_path / "second.yaml").write_text(pod("a", x=2))

    documents = FolderSource([tmp_path]).load()

    assert [document.content["x"] for document in documents.documents] == [1]
    assert [str(problem) for problem in documents.problems] == [
        f"{tmp_path}/second.yaml:1: Pod default/a: is already defined at {tmp_path}/first.yaml:1, which stays; "
        "remove one of the two [PWP0001]"
    ]


def test_a_file_that_no_longer_parses_keeps_its_last_good_documents_until_it_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(pod("a"))
    source = FolderSource([path])
    source.load()

    path.write_text("a: [")
    broken = source.load()
    path.write_text(pod("b"))
    mended = source.load()

    assert names(broken) == ["a"]
    assert broken.problems[0].sentence.endswith("; the file's last valid content stays live")
    assert (names(mended), mended.problems) == (["b"], ())


def test_a_file_removed_from_a_folder_takes_its_objects_along(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pod("a"))
    (tmp_path / "b.yaml").write_text(pod("b"))
    source = FolderSource([tmp_path])
    source.load()

    (tmp_path / "a.yaml").unlink()

    assert names(source.load()) == ["b"]


def test_a_path_that_goes_missing_keeps_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "a.yaml").write_text(pod("a"))
    (tmp_path / "b.yaml").write_text(pod("b"))
    source = FolderSource([tmp_path / "mesh", tmp_path / "b.yaml"])
    source.load()

    (tmp_path / "mesh").rename(tmp_path / "away")
    (tmp_path / "b.yaml").unlink()
    documents = source.load()

    assert names(documents) == ["a", "b"]
    assert all("No such file" in problem.sentence for problem in documents.problems)
    assert len(documents.problems) == 2


def test_a_path_that_never_was_is_a_problem_and_comes_later(tmp_path: Path) -> None:
    source = FolderSource([tmp_path / "mesh"])

    missing = source.load()
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "a.yaml").write_text(pod("a"))

    assert [str(it) for it in missing.problems] == [
        f"{tmp_path}/mesh: {tmp_path}/mesh: cannot be read: No such file or directory [PWP0001]"
    ]
    assert names(source.load()) == ["a"]


def test_a_named_pipe_and_a_link_in_a_circle_hold_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pod("a"))
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "circle").symlink_to(tmp_path)

    documents = FolderSource([tmp_path]).load()

    assert names(documents) == ["a"]
    assert [problem.subject for problem in documents.problems] == [f"{tmp_path}/pipe.yaml"]


def test_only_changed_files_are_parsed_again(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pod("a"))
    (tmp_path / "b.yaml").write_text(pod("b"))
    source = FolderSource([tmp_path])
    before = source.load().documents

    (tmp_path / "b.yaml").write_text(pod("b", x=1))
    after = source.load().documents

    assert after[0] is before[0]
    assert after[1] is not before[1]


def test_a_burst_of_writes_is_one_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "a.yaml").write_text(pod("a"))
        source = FolderSource([tmp_path], poll_seconds=0.1)
        source.load()

        async with watching(source) as seen:
            for number in range(20):
                (tmp_path / f"b{number:02}.yaml").write_text(pod(f"b{number:02}"))
                await asyncio.sleep(0)
            documents = await seen.get()

            assert len(names(documents)) == 21
            assert seen.empty()

    run(scenario())


def test_a_swap_of_links_as_configmaps_make_it_is_seen(tmp_path: Path) -> None:
    async def scenario() -> None:
        for number in (1, 2):
            (tmp_path / f"..{number}").mkdir()
            (tmp_path / f"..{number}" / "mesh.yaml").write_text(pod(f"p{number}"))
        (tmp_path / "..data").symlink_to("..1")
        (tmp_path / "mesh.yaml").symlink_to("..data/mesh.yaml")
        source = FolderSource([tmp_path], poll_seconds=0.01)
        assert names(source.load()) == ["p1"]

        async with watching(source) as seen:
            (tmp_path / "..new").symlink_to("..2")
            (tmp_path / "..new").rename(tmp_path / "..data")

            assert names(await seen.get()) == ["p2"]

    run(scenario())


def test_a_file_replaced_by_renaming_is_seen(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "mesh.yaml"
        path.write_text(pod("a"))
        source = FolderSource([path], poll_seconds=0.01)
        source.load()

        async with watching(source) as seen:
            (tmp_path / "mesh.yaml~").write_text(pod("b"))
            (tmp_path / "mesh.yaml~").rename(path)

            assert names(await seen.get()) == ["b"]

    run(scenario())


def test_what_could_not_be_applied_is_tried_again_though_no_file_has_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, applied = tmp_path / "mesh.yaml", asyncio.Event()
        path.write_text(pod("a"))
        source = FolderSource([path], poll_seconds=0.01)
        source.load()
        tries: list[list[str]] = []

        def apply(documents: Documents) -> None:
            tries.append(names(documents))
            if len(tries) == 1:
                raise OSError("no descriptor is free")
            applied.set()

        path.write_text(pod("b"))
        tasks = Tasks()
        tasks.keep("following", lambda: source.watch(lambda documents: documents, apply))
        await applied.wait()
        await tasks.close()

        assert tries == [["b"], ["b"]]

    run(scenario())
