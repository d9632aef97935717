import asyncio
import os
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from l4.config.codes import DocumentCode
from l4.config.doubts import EVERYWHERE
from l4.config.file_content import LOST_SECONDS
from l4.config.folder import FolderSource
from l4.config.inventory import Inventory
from l4.config.notices import Notices
from l4.config.source import Answer, Changes, Documents
from l4.net.tasks import Tasks
from tests.kit.aio import run
from tests.kit.mesh import settled


def pod(name: str, **fields: object) -> str:
    extra = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n{extra}---\n"


def names(documents: Documents) -> list[str]:
    return [document.key.name for document in documents.documents]


@asynccontextmanager
async def watching(source: FolderSource) -> AsyncIterator["asyncio.Queue[Documents]"]:
    """The state after each answer."""
    seen: asyncio.Queue[Documents] = asyncio.Queue()
    known = Inventory()
    known.take(source.read())

    async def take(answer: Answer) -> None:
        known.take(answer)
        seen.put_nowait(Documents(known.documents, answer.problems, answer.doubts))

    task = asyncio.get_running_loop().create_task(source.watch(take))
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

    documents = FolderSource([tmp_path]).read()

    assert names(documents) == ["a", "b", "c"]
    assert not documents.problems


def test_a_later_path_overrides_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(pod("a", x=1) + pod("b", x=1))
    (tmp_path / "second.yaml").write_text(pod("a", x=2))

    documents = FolderSource([tmp_path / "first.yaml", tmp_path / "second.yaml"]).read()

    assert [document.content["x"] for document in documents.documents] == [2, 1]
    assert not documents.problems


def test_the_same_object_twice_in_one_path_is_a_problem_and_the_first_stays(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(pod("a", x=1))
    (tmp_path / "second.yaml").write_text(pod("a", x=2))

    documents = FolderSource([tmp_path]).read()

    assert [document.content["x"] for document in documents.documents] == [1]
    assert [str(problem) for problem in documents.problems] == [
        f"{tmp_path}/second.yaml:1: Pod default/a: is already defined at {tmp_path}/first.yaml:1, which stays; "
        "remove one of the two [PWP0001]"
    ]


def test_a_file_that_no_longer_parses_keeps_its_last_good_documents_until_it_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(pod("a"))
    source = FolderSource([path])
    source.read()

    path.write_text("a: [")
    broken = source.read()
    path.write_text(pod("b"))
    mended = source.read()

    assert names(broken) == ["a"]
    assert broken.problems[0].sentence.endswith("; the file's last valid content stays live")
    assert (names(mended), mended.problems) == (["b"], ())


def test_a_file_removed_from_a_folder_takes_its_objects_along(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pod("a"))
    (tmp_path / "b.yaml").write_text(pod("b"))
    source = FolderSource([tmp_path])
    source.read()

    (tmp_path / "a.yaml").unlink()

    assert names(source.read()) == ["b"]


def test_a_path_that_goes_missing_keeps_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "a.yaml").write_text(pod("a"))
    (tmp_path / "b.yaml").write_text(pod("b"))
    source = FolderSource([tmp_path / "mesh", tmp_path / "b.yaml"])
    source.read()

    (tmp_path / "mesh").rename(tmp_path / "away")
    (tmp_path / "b.yaml").unlink()
    documents = source.read()

    assert names(documents) == ["a", "b"]
    assert all("No such file" in problem.sentence for problem in documents.problems)
    assert len(documents.problems) == 2


def test_a_path_that_never_was_is_a_problem_and_comes_later(tmp_path: Path) -> None:
    source = FolderSource([tmp_path / "mesh"])

    missing = source.read()
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "a.yaml").write_text(pod("a"))

    assert [str(it) for it in missing.problems] == [
        f"{tmp_path}/mesh: {tmp_path}/mesh: cannot be read: No such file or directory [PWP0001]"
    ]
    assert names(source.read()) == ["a"]


def test_a_named_pipe_and_a_link_in_a_circle_hold_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pod("a"))
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "circle").symlink_to(tmp_path)

    documents = FolderSource([tmp_path]).read()

    assert names(documents) == ["a"]
    assert [problem.subject for problem in documents.problems] == [f"{tmp_path}/pipe.yaml"]


def test_a_link_to_a_volume_that_is_not_there_is_a_doubt_until_it_is(tmp_path: Path) -> None:
    volume, folder = tmp_path / "volume", tmp_path / "folder"
    folder.mkdir()
    (folder / "policies").symlink_to(volume)
    source = FolderSource([folder])

    missing = source.read()
    volume.mkdir()
    there = source.read()

    assert [(it.has_last_good, it.namespace) for it in missing.doubts] == [(False, EVERYWHERE)]
    assert "it is a link to nothing" in str(missing.doubts[0].problem)
    assert there.doubts == ()


def test_only_changed_files_are_parsed_again(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(pod("a"))
    (tmp_path / "b.yaml").write_text(pod("b"))
    source = FolderSource([tmp_path])
    before = source.read().documents

    (tmp_path / "b.yaml").write_text(pod("b", x=1))
    after = source.read().documents

    assert after[0] is before[0]
    assert after[1] is not before[1]


def test_a_burst_of_writes_is_one_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "a.yaml").write_text(pod("a"))
        source = FolderSource([tmp_path], poll_seconds=0.1)
        source.read()

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
        assert names(source.read()) == ["p1"]

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
        source.read()

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
        source.read()
        tries: list[Answer] = []

        async def take(answer: Answer) -> None:
            tries.append(answer)
            if len(tries) == 1:
                raise OSError("no descriptor is free")
            applied.set()

        path.write_text(pod("b"))
        tasks = Tasks()
        tasks.keep("following", lambda: source.watch(take))
        await applied.wait()
        await tasks.close()

        first, second = tries
        assert isinstance(first, Changes)
        assert [it.key.name for it in first.changed] == ["b"]
        assert [key.name for key in first.gone] == ["a"]
        assert isinstance(second, Documents)  # nobody knows what was taken of the first
        assert names(second) == ["b"]

    run(scenario())


# -- what inotify tells --------------------------------------------------------------------------------------------


def _write(path: Path) -> None:
    path.write_text(pod("b"))


def _replace(path: Path) -> None:
    path.with_name("new").write_text(pod("b"))
    path.with_name("new").rename(path)


def _add(path: Path) -> None:
    path.with_name("more.yaml").write_text(pod("b"))


def _remove(path: Path) -> None:
    path.unlink()


def _add_folder(path: Path) -> None:
    path.with_name("new").mkdir()
    path.with_name("new").joinpath("more.yaml").write_text(pod("b"))


def _swap(path: Path) -> None:
    path.with_name("..2").mkdir()
    path.with_name("..2").joinpath("linked.yaml").write_text(pod("b"))
    path.with_name("..new").symlink_to("..2")
    path.with_name("..new").rename(path.with_name("..data"))


@pytest.mark.parametrize(
    ("change", "names_file"),
    [
        *((change, False) for change in (_write, _replace, _add, _remove, _add_folder, _swap)),
        *((change, True) for change in (_write, _replace)),
    ],
)
def test_a_change_is_seen_long_before_the_next_poll(
    tmp_path: Path, change: Callable[[Path], None], names_file: bool
) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(pod("a"))
    (tmp_path / "..1").mkdir()
    (tmp_path / "..1" / "linked.yaml").write_text(pod("linked"))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "linked.yaml").symlink_to("..data/linked.yaml")

    async def scenario() -> None:
        if (probe := Notices.open()) is None:
            pytest.skip("this system has no inotify")
        probe.close()
        source = FolderSource([path if names_file else tmp_path], poll_seconds=10_000.0, settle_seconds=0.01)
        async with watching(source) as seen:
            await settled(lambda: source.is_told, 20)

            change(path)

            assert names(await seen.get()) != (["a"] if names_file else ["a", "linked"])

    run(scenario())


def test_what_inotify_does_not_tell_is_found_by_looking(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere.yaml"
    folder.mkdir()
    elsewhere.write_text(pod("a"))
    (folder / "mesh.yaml").symlink_to(elsewhere)

    async def scenario() -> None:
        async with watching(FolderSource([folder], poll_seconds=0.01)) as seen:
            elsewhere.write_text(pod("b"))

            assert names(await seen.get()) == ["b"]

    run(scenario())


# -- what can't be looked at, and what is less than before ---------------------------------------------------------


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def policy(name: str, rules: str = "rules: [{}]") -> str:
    head = f"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\n"
    return f"{head}spec:\n  action: DENY\n  {rules}\n---\n"


def sentences(documents: Documents) -> list[str]:
    return [doubt.problem.sentence for doubt in documents.doubts]


def test_without_a_descriptor_nothing_is_lost_and_every_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.yaml").write_text(pod("a"))
    (tmp_path / "deep" / "b.yaml").write_text(pod("b"))
    source = FolderSource([tmp_path])
    source.read()

    with no_descriptor_left():
        during = source.read()
    after = source.read()

    assert names(during) == ["a", "b"]
    assert sentences(during) == ["cannot be listed: Too many open files; its last objects stay live"]
    assert all(doubt.has_last_good for doubt in during.doubts)
    assert (names(after), after.doubts, after.problems) == (["a", "b"], (), ())


def test_a_file_that_could_not_be_opened_is_opened_later_though_it_has_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(pod("a"))
    source = FolderSource([path])

    with no_descriptor_left():
        during = source.read()
    after = source.read()

    assert (names(during), sentences(during)) == ([], ["cannot be read: Too many open files"])
    assert [(doubt.has_last_good, doubt.namespace) for doubt in during.doubts] == [(False, EVERYWHERE)]
    assert (names(after), after.doubts) == (["a"], ())


def test_an_emptied_file_keeps_what_it_held_until_it_is_written_or_removed(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "p.yaml"
    path.write_text(policy("deny"))
    (tmp_path / "other.yaml").write_text(pod("a"))
    source = FolderSource([tmp_path], clock=clock)
    source.read()

    path.write_text("")
    emptied = source.read()
    clock.now += 3600
    still = source.read()
    path.write_text(policy("deny") + policy("more"))
    written = source.read()

    assert names(emptied) == names(still) == ["a", "deny"]
    assert "is empty; the file's last valid content stays live" in sentences(still)[0]
    assert (names(written), written.doubts) == (["a", "deny", "more"], ())


def test_a_file_that_is_empty_from_the_start_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("")
    os.utime(path, (1, 1))
    (tmp_path / "comment.yaml").write_text("# nothing yet\n")

    documents = FolderSource([tmp_path]).read()

    assert [it.code for it in documents.problems] == [DocumentCode.FILE_EMPTY, DocumentCode.FILE_EMPTY]
    assert documents.doubts == ()


def test_a_file_emptied_a_moment_ago_may_be_about_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("")
    source = FolderSource([tmp_path])

    young = source.read()
    path.write_text(policy("deny"))
    written = source.read()

    assert [(doubt.has_last_good, doubt.namespace) for doubt in young.doubts] == [(False, EVERYWHERE)]
    assert (names(written), written.doubts) == (["deny"], ())


@pytest.mark.parametrize("then", [policy("deny", ""), policy("other"), "# nothing\n", pod("a")])
def test_a_policy_that_becomes_less_waits_until_the_file_is_left_alone(tmp_path: Path, then: str) -> None:
    clock, path = Clock(), tmp_path / "p.yaml"
    path.write_text(policy("deny"))
    source = FolderSource([path], clock=clock)
    before = source.read()

    path.write_text(then)
    first = source.read()
    clock.now += LOST_SECONDS - 0.1
    path.write_text(then + "\n")
    again = source.read()
    clock.now += LOST_SECONDS - 0.1
    waiting = source.read()
    clock.now += 0.2
    taken = source.read()

    assert first.documents == again.documents == waiting.documents == before.documents
    assert "AuthorizationPolicy default/deny" in sentences(waiting)[0]
    assert taken.documents != before.documents
    assert taken.doubts == ()


def test_a_new_policy_does_not_wait_and_neither_does_what_is_no_policy(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(policy("deny") + pod("a"))
    (tmp_path / "pods.yaml").write_text(pod("b") + pod("c"))
    source = FolderSource([tmp_path], clock=Clock())
    source.read()

    (tmp_path / "p.yaml").write_text(policy("deny") + policy("more"))
    (tmp_path / "pods.yaml").write_text(pod("b"))

    assert names(source.read()) == ["b", "deny", "more"]


def test_a_file_with_policies_that_is_replaced_by_deleting_it_first_is_never_missed(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "p.yaml"
    path.write_text(policy("deny"))
    source = FolderSource([tmp_path], clock=clock)
    source.read()

    path.unlink()
    between = source.read()
    path.write_text(policy("deny"))
    replaced = source.read()
    path.unlink()
    source.read()
    clock.now += LOST_SECONDS
    removed = source.read()

    assert names(between) == ["deny"]
    assert "is gone" in sentences(between)[0]
    assert (names(replaced), replaced.doubts) == (["deny"], ())
    assert (names(removed), removed.doubts) == ([], ())


def test_a_policy_moved_to_another_file_is_not_said_to_be_there_twice(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(policy("deny"))
    source = FolderSource([tmp_path], clock=Clock())
    source.read()

    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    documents = source.read()

    assert names(documents) == ["deny"]
    assert documents.documents[0].origin.file == str(tmp_path / "b.yaml")
    assert not any("already defined" in it.sentence for it in documents.problems)


@pytest.mark.parametrize(
    ("text", "namespace"),
    [
        (policy("deny").replace("{name: deny}", "{name: deny, name: deny, namespace: books}"), "books"),
        (policy("deny").replace("{name: deny}", "{namespace: books}"), "books"),
        (policy("deny").replace("kind: AuthorizationPolicy\n", ""), "default"),
        (policy("deny").replace("apiVersion: security.istio.io/v1\n", ""), "default"),
        ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n", EVERYWHERE),
        ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n", EVERYWHERE),
        ("apiVers", EVERYWHERE),
        ("apiVersion: security.istio.io/v1\nkind: [", EVERYWHERE),
        ("kind: AuthorizationPolicyList\nitems: 7\n", EVERYWHERE),
    ],
)
def test_a_policy_that_was_never_understood_is_a_doubt_about_those_it_can_be_for(
    tmp_path: Path, text: str, namespace: str
) -> None:
    (tmp_path / "p.yaml").write_text(text)

    documents = FolderSource([tmp_path]).read()

    assert [(doubt.has_last_good, doubt.namespace) for doubt in documents.doubts] == [(False, namespace)]
    assert documents.doubts[0].problem in documents.problems


@pytest.mark.parametrize("text", ["replicas: 3\nimage: {tag: '1'}\n", "apiVersion: v1\nkind: Pod\n"])
def test_what_can_hold_no_policy_is_a_problem_and_no_doubt(tmp_path: Path, text: str) -> None:
    (tmp_path / "values.yaml").write_text(text)

    documents = FolderSource([tmp_path]).read()

    assert len(documents.problems) == 1
    assert documents.doubts == ()


def test_an_object_that_can_not_be_read_any_more_keeps_its_last_valid_version(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(policy("deny") + pod("a"))
    source = FolderSource([path], clock=Clock())
    before = source.read()

    path.write_text(policy("deny", "action: ALLOW") + pod("a", x=1))
    documents = source.read()

    assert names(documents) == ["a", "deny"]
    assert documents.documents[0].content["x"] == 1
    assert documents.documents[1].content == before.documents[1].content
    assert sentences(documents) == [
        "the key 'action' is repeated; keep one of them; "
        "the last valid version of AuthorizationPolicy default/deny stays live"
    ]


@pytest.mark.parametrize(("kind", "looks"), [("Pod", 2), ("Service", 11)])
def test_endpoints_that_change_all_the_time_keep_none_of_them_waiting(tmp_path: Path, kind: str, looks: int) -> None:
    async def scenario() -> None:
        looked = 0

        def write(number: int, text: str) -> None:
            content = f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: p{number}, labels: {{app: {text}}}}}\n"
            (tmp_path / f"p{number}.yaml").write_text(content)

        def change_another() -> float:
            nonlocal looked
            looked += 1
            write(looked % 20, "n" * (looked + 10))
            return 0.0

        for number in range(20):
            write(number, "old")
        source = FolderSource([tmp_path], poll_seconds=0.01, clock=change_another)
        source.read()
        before, applied = looked, asyncio.get_running_loop().create_future()

        async def take(answer: Answer) -> None:
            if not applied.done():
                applied.set_result(looked)

        tasks = Tasks()
        tasks.keep("following", lambda: source.watch(take))
        assert await applied - before in {looks, looks + 1}  # one more where the kernel is asked to tell of changes
        await tasks.close()

    run(scenario())
