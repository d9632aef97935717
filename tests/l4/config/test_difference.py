from l4.config.difference import Difference, difference
from l4.config.documents import Document, ObjectKey, Origin


def document(name: str, line: int = 1, **content: object) -> Document:
    return Document(ObjectKey("", "Service", "default", name), content, Origin("a.yaml", line))


def test_what_is_written_the_same_in_the_same_place_does_not_differ() -> None:
    assert not difference((document("a"),), (document("a"),))


def test_what_came_what_changed_and_what_went_is_told_in_any_order() -> None:
    same, old, new, gone = document("same"), document("b", x=1), document("b", x=2), document("c")
    came = document("d")

    assert difference((gone, same, old), (came, new, same)) == Difference(((None, came), (old, new)), (gone.key,))


def test_an_object_that_moved_in_its_file_differs_because_its_problems_are_told_elsewhere() -> None:
    before, after = document("a", 1), document("a", 7)

    assert difference((before,), (after,)).changed == ((before, after),)
