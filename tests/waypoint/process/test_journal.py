"""Whoever reads a journal now and then knows what its source knows."""

from hypothesis import given
from hypothesis import strategies as st

from l4.config.documents import Document, FileOrigin, ObjectKey, Problem
from l4.config.encoded import Encoded
from l4.config.inventory import Inventory
from l4.config.source import Answer, Changes, Documents
from waypoint.process.journal import MAX_GONE, Journal, News, encoded_bytes

NAMES = "abcd"
PROBLEM = Problem(FileOrigin("mesh.yaml"), "mesh.yaml", "", "cannot be read")


def key(name: str) -> ObjectKey:
    return ObjectKey("", "Pod", "default", name)


def document(name: str, value: int = 0) -> Document:
    return Document(key(name), {"value": value}, FileOrigin("mesh.yaml", value))


def journal_of(max_gone: int = MAX_GONE, part: int = 1000) -> Journal:
    """A journal whose parts have at most so many documents."""
    return Journal(max_gone, part, lambda it: 1)


def told(news: News) -> tuple[bool, list[str], list[str]]:
    return news.is_everything, sorted(it.key.name for it in news.documents), sorted(it.name for it in news.gone)


def test_each_reader_gets_what_is_new_to_it_once() -> None:
    journal = journal_of()
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
    journal = journal_of(max_gone=1)
    journal.take(Documents((document("a"), document("b"), document("c"))))
    first = journal.number
    journal.take(Changes((), (key("a"),)))
    second = journal.number
    journal.take(Changes((), (key("b"),)))

    assert told(journal.since(first)) == (True, ["c"], [])
    assert told(journal.since(second)) == (False, [], ["b"])


def test_a_source_that_begins_anew_is_read_anew() -> None:
    journal = journal_of()
    journal.take(Documents((document("a"),)))
    first = journal.number
    journal.take(Documents((document("b"),)))

    assert told(journal.since(first)) == (True, ["b"], [])


def test_parts_are_bounded_and_what_changes_between_them_is_in_a_later_one() -> None:
    journal = journal_of(part=2)
    journal.take(Documents(tuple(map(document, "abcde")), (PROBLEM,)))

    first = journal.since(0)
    assert told(first) == (True, ["a", "b"], [])
    assert (first.is_last, first.problems) == (False, ())
    journal.take(Changes((document("a", 1),), (key("c"), key("b")), (PROBLEM,)))
    second = journal.since(first.number, first.begun)
    assert told(second) == (False, ["d", "e"], [])
    assert not second.is_last
    third = journal.since(second.number, second.begun)
    assert told(third) == (False, ["a"], ["b", "c"])
    assert (third.is_last, third.problems, third.number) == (True, (PROBLEM,), journal.number)


def test_a_part_has_a_document_however_large_and_ends_at_its_bytes() -> None:
    def encoded(name: str, size: int) -> Document:
        return Document(key(name), Encoded(b"x" * size), FileOrigin("mesh.yaml"))

    journal = Journal(part_bytes=100)
    journal.take(Documents((encoded("a", 500), encoded("b", 60), encoded("c", 60), encoded("d", 60))))
    parts, number, begun = [], 0, 0
    while number != journal.number:
        news = journal.since(number, begun)
        parts.append([it.key.name for it in news.documents])
        number, begun = news.number, news.begun

    assert parts == [["a"], ["b", "c"], ["d"]]
    assert encoded_bytes(encoded("a", 500)) == 500


_documents = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3)).map(
    lambda its: tuple(document(*it) for it in sorted(its.items()))
)
_keys = st.sets(st.sampled_from(NAMES)).map(lambda names: tuple(map(key, sorted(names))))


@st.composite
def _changes(draw: st.DrawFn) -> Changes:
    gone = draw(_keys)
    return Changes(tuple(it for it in draw(_documents) if it.key not in gone), gone)


_answers = st.one_of(_changes(), st.builds(Documents, _documents))


@given(
    st.builds(Documents, _documents),
    st.lists(st.tuples(_answers, st.booleans(), st.booleans())),
    st.integers(0, 3),
    st.integers(1, 5),
)
def test_any_reader_comes_to_know_what_the_source_says(
    first: Documents, rest: list[tuple[Answer, bool, bool]], max_gone: int, part: int
) -> None:
    journal, direct = journal_of(max_gone, part), Inventory()
    readers = [_Reader(journal), _Reader(journal)]
    for answer, *reads in [(first, True, False), *rest]:
        journal.take(answer)
        direct.take(answer)
        for reader, is_reading in zip(readers, reads, strict=True):
            if is_reading:
                reader.read()  # one part, so that the source goes on before the reader knows all
    for reader in readers:
        for _ in range(len(direct.documents) + 1):  # one more part for what is only removed
            reader.read()
        assert not reader.read()
        assert sorted(reader.documents.values(), key=lambda it: it.key) == list(direct.documents)


class _Reader:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._number = self._begun = 0
        self.documents: dict[ObjectKey, Document] = {}

    def read(self) -> bool:
        """Take the next part. False if nothing is new."""
        if self._number == self._journal.number:
            return False
        news = self._journal.since(self._number, self._begun)
        self._begun = 0 if news.is_last else news.begun
        if news.is_everything:
            self.documents.clear()
        self.documents |= {it.key: it for it in news.documents}
        for gone in news.gone:
            self.documents.pop(gone, None)
        assert news.number > self._number or news.is_everything
        assert news.is_last is (news.number == self._journal.number)
        self._number = news.number
        return True
