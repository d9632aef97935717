"""Many files are one list, whichever of them changed since the last time."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from l4.config.documents import Document, FileOrigin, ObjectKey
from l4.config.file_content import FileContent
from l4.config.merging import Merged, Merging

PATHS = [Path(name) for name in ("a.yaml", "b.yaml", "c.yaml")]


def content(path: Path, objects: dict[str, int]) -> FileContent:
    documents = [
        Document(ObjectKey("", "Service", "default", name), {"x": value}, FileOrigin(str(path), line))
        for line, (name, value) in enumerate(objects.items(), start=1)
    ]
    return FileContent((1,), documents=documents)


def said(merged: Merged) -> list[tuple[str, int, str]]:
    return [(it.key.name, it.content["x"], str(it.origin)) for it in merged.documents]


_FILES = st.fixed_dictionaries(
    {path: st.dictionaries(st.sampled_from("pqrs"), st.integers(0, 2), max_size=3) for path in PATHS}
)
_LAYERS = st.sampled_from([(PATHS,), (PATHS[:2], PATHS[2:]), (PATHS[2:], PATHS[:2]), (PATHS[:1], PATHS[1:])])


@given(st.lists(st.tuples(_FILES, _LAYERS, st.sets(st.sampled_from(PATHS), max_size=1)), min_size=1, max_size=5))
def test_files_that_change_give_what_they_give_at_once(
    steps: list[tuple[dict[Path, dict[str, int]], tuple[list[Path], ...], set[Path]]],
) -> None:
    merging, files = Merging(), dict[Path, FileContent]()
    known: dict[str, tuple[str, int, str]] = {}

    for objects, layers, leaving in steps:
        now = {path: content(path, its) for path, its in objects.items()}
        rewritten = [path for path in PATHS if path in files and now[path] != files[path]]
        files |= {path: now[path] for path in PATHS if path not in files or path in rewritten}
        merged = merging.merge(layers, files, frozenset(leaving), rewritten)
        anew = Merging().merge(layers, files, frozenset(leaving), [])

        assert said(merged) == said(anew)
        assert merged.problems == anew.problems
        after = {it[0]: it for it in said(merged)}
        assert {it.key.name for it in merged.changed} == {name for name, it in after.items() if known.get(name) != it}
        assert {it.name for it in merged.gone} == known.keys() - after.keys()
        known = after
