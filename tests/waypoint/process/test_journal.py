"""Whoever reads a journal now and then knows what its source knows."""

from hypothesis import given
from hypothesis import strategies as st

from l4.config.documents import Document, FileOrigin, ObjectKey, Problem
from l4.config.inventory import Inventory
from l4.config.source import Answer, Changes, Documents
from waypoint.process.journal import Journal, News

NAMES = "abcd"
PROBLEM = Problem(FileOrigin("mesh.yaml"), "mesh.yaml", "", "cannot be read")


def key(name: str) -> ObjectKey:
    return ObjectKey("", "Pod", "default", name)


def document(name: str, value: int = 0) -> Document:
    return Document(key(name), {"value": value}, FileOrigin("mesh.yaml", value))


def told(news: News) -> tuple[bool, list[str], list[str]]:
    return news.is_everything, sorted(it.key.name for it in news.documents), sorted(it.name for it in news.gone)


def test_each_reader_gets_what_is_new_to_it_once() -> None:
    journal = Journal()
    journal.take(Documents((document("a"), document("b"))))
    assert told(journal.since(0)) == (True, ["a", "b"], [])
    journal.take(Changes((document("a", 1),)))
    journal.take(Changes((document("a", 2), document("c")), (key("b"),), (PROBLEM,)))

    latest = journal.since(2)
    assert told(latest) == (False, ["a", "c"], ["b"])
    assert latest.problems == (PROBLEM,)
    assert {it.content["value"] for it in journal.since(1).documents if it.key == key("a")} == {2}
    assert told(journal.since(journal.number)) == (False, [], [])
    assert told(journal.since(0)) == (True, ["a", "c"], [])


def test_a_reader_that_has_missed_more_than_is_remembered_gets_everything() -> None:
    journal = Journal(max_gone=1)
    journal.take(Documents((document("a"), document("b"), document("c"))))
    journal.take(Changes((), (key("a"),)))
    journal.take(Changes((), (key("b"),)))

    assert told(journal.since(1)) == (True, ["c"], [])
    assert told(journal.since(2)) == (False, [], ["b"])


def test_a_source_that_begins_anew_is_read_anew() -> None:
    journal = Journal()
    journal.take(Documents((document("a"),)))
    journal.take(Documents((document("b"),)))

    assert told(journal.since(1)) == (True, ["b"], [])


_documents = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3)).map(
    lambda its: tuple(document(*it) for it in sorted(its.items()))
)
_keys = st.sets(st.sampled_from(NAMES)).map(lambda names: tuple(map(key, sorted(names))))


@st.composite
def _changes(draw: st.DrawFn) -> Changes:
    gone = draw(_keys)
    return Changes(tuple(it for it in draw(_documents) if it.key not in gone), gone)


_answers = st.one_of(_changes(), st.builds(Documents, _documents))


@given(st.builds(Documents, _documents), st.lists(st.tuples(_answers, st.booleans(), st.booleans())), st.integers(0, 3))
def test_any_reader_comes_to_know_what_the_source_says(
    first: Documents, rest: list[tuple[Answer, bool, bool]], max_gone: int
) -> None:
    journal, direct = Journal(max_gone), Inventory()
    readers = [(Inventory(), [0]), (Inventory(), [0])]
    for answer, *reads in [(first, True, False), *rest]:
        journal.take(answer)
        direct.take(answer)
        for (inventory, at), is_reading in zip(readers, reads, strict=True):
            if is_reading:
                inventory.take(_answer(journal.since(at[0])))
                at[0] = journal.number
                assert inventory.documents == direct.documents
    assert len(journal.since(journal.number).documents) == 0


def _answer(news: News) -> Answer:
    documents = tuple(sorted(news.documents, key=lambda it: it.key))
    return Documents(documents) if news.is_everything else Changes(documents, news.gone)
