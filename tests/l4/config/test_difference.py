from random import Random

from hypothesis import given
from hypothesis import strategies as st

from l4.config.difference import Difference, difference
from l4.config.documents import Document, FileOrigin, ObjectKey


def document(name: str, line: int = 1, **content: object) -> Document:
    return Document(ObjectKey("", "Service", "default", name), content, FileOrigin("a.yaml", line))


def test_what_is_written_the_same_in_the_same_place_does_not_differ() -> None:
    assert not difference((document("a"),), (document("a"),))


def test_what_came_what_changed_and_what_went_is_told_in_any_order() -> None:
    same, old, new, gone = document("same"), document("b", x=1), document("b", x=2), document("c")
    came = document("d")

    assert difference((gone, same, old), (came, new, same)) == Difference(((None, came), (old, new)), (gone.key,))


def test_an_object_that_moved_in_its_file_differs_because_its_problems_are_told_elsewhere() -> None:
    before, after = document("a", 1), document("a", 7)

    assert difference((before,), (after,)).changed == ((before, after),)


_NAMES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 2))


@given(_NAMES, _NAMES, st.booleans(), st.randoms())
def test_what_differs_is_what_two_dictionaries_say(
    one: dict[str, int], other: dict[str, int], is_sorted: bool, dice: Random
) -> None:
    kept = {(name, value): document(name, x=value) for name in "abcdefgh" for value in range(3)}
    before, now = ([kept[it] for it in its.items()] for its in (one, other))
    for its in (before, now):
        its.sort(key=lambda it: it.key)
        if not is_sorted:
            dice.shuffle(its)

    found = difference(before, now)

    assert {(old and old.content["x"], new.key.name, new.content["x"]) for old, new in found.changed} == {
        (one.get(name), name, value) for name, value in other.items() if one.get(name) != value
    }
    assert sorted(key.name for key in found.gone) == sorted(one.keys() - other.keys())
