"""All current documents of a source, after answers of both kinds."""

from hypothesis import given
from hypothesis import strategies as st

from l4.config.difference import Difference
from l4.config.documents import Document, FileOrigin, ObjectKey
from l4.config.inventory import Inventory
from l4.config.source import Answer, Changes, Documents


def key(name: str) -> ObjectKey:
    return ObjectKey("", "Service", "default", name)


def document(name: str, value: int = 0) -> Document:
    return Document(key(name), {"x": value}, FileOrigin("a.yaml", 1))


def test_a_change_says_what_was_there_before() -> None:
    it = Inventory()
    it.take(Documents((document("a"), document("c"))))

    found = it.take(Changes((document("b"), document("c", 1)), (key("a"),)))

    assert found == Difference(((None, document("b")), (document("c"), document("c", 1))), (key("a"),))
    assert it.documents == (document("b"), document("c", 1))


def test_what_is_said_again_and_what_was_never_there_is_no_change() -> None:
    it = Inventory()
    it.take(Documents((document("a"),)))
    before = it.documents

    found = it.take(Changes((document("a"),), (key("b"),)))

    assert not found
    assert it.documents is before


_NAMES = st.sampled_from("abcdef")
_STATES = st.dictionaries(_NAMES, st.integers(0, 2))


@given(st.lists(st.tuples(st.booleans(), _STATES, st.sets(_NAMES)), max_size=6))
def test_any_answers_give_what_a_dictionary_says(steps: list[tuple[bool, dict[str, int], set[str]]]) -> None:
    it, known = Inventory(), dict[str, int]()

    for is_all, state, gone in steps:
        changed = tuple(document(name, value) for name, value in state.items())
        before = dict(known)
        answer: Answer
        if is_all:
            answer, known = Documents(tuple(sorted(changed, key=lambda it: it.key))), dict(state)
        else:
            lost = gone - state.keys()
            answer = Changes(changed, tuple(map(key, lost)))
            known = {name: value for name, value in (known | state).items() if name not in lost}
        found = it.take(answer)

        assert it.documents == tuple(document(name, known[name]) for name in sorted(known))
        assert {new.key.name for _, new in found.changed} == {
            name for name, value in known.items() if before.get(name) != value
        }
        assert {it.name for it in found.gone} == before.keys() - known.keys()
