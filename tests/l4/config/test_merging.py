from pathlib import Path

from l4.config.documents import Document, FileOrigin, ObjectKey
from l4.config.file_content import FileContent
from l4.config.merging import Merging

A, B = Path("a.yaml"), Path("b.yaml")


def document(file: Path, name: str, says: int = 0) -> Document:
    return Document(ObjectKey("", "Service", "default", name), {"says": says}, FileOrigin(str(file), 1))


def content(*documents: Document) -> FileContent:
    return FileContent(None, documents=list(documents))


def said(documents: object) -> list[tuple[str, int]]:
    assert isinstance(documents, list | tuple)
    return [(it.key.name, it.content["says"]) for it in documents]


def test_documents_are_sorted_by_key_whatever_file_they_are_from() -> None:
    merged = Merging().merge([[A, B]], {A: content(document(A, "z")), B: content(document(B, "a"))}, set(), [])

    assert said(merged.documents) == [("a", 0), ("z", 0)]
    assert len(merged.changed) == 2


def test_a_later_layer_replaces_an_object_of_an_earlier_one() -> None:
    files = {A: content(document(A, "x", 1)), B: content(document(B, "x", 2))}

    merged = Merging().merge([[A], [B]], files, set(), [])

    assert said(merged.documents) == [("x", 2)]
    assert merged.problems == ()


def test_the_same_object_twice_in_a_layer_is_a_problem_and_the_first_stays() -> None:
    files = {A: content(document(A, "x", 1)), B: content(document(B, "x", 2))}

    merged = Merging().merge([[A, B]], files, set(), [])

    assert said(merged.documents) == [("x", 1)]
    [problem] = merged.problems
    assert str(problem.origin) == "b.yaml:1"
    assert "a.yaml:1" in problem.sentence


def test_a_file_on_its_way_out_stands_back_for_one_that_has_the_object_now() -> None:
    files = {A: content(document(A, "x", 1)), B: content(document(B, "x", 2))}

    merged = Merging().merge([[A, B]], files, {A}, [])

    assert said(merged.documents) == [("x", 2)]
    assert merged.problems == ()


def test_a_rewritten_file_changes_what_is_different_and_nothing_else() -> None:
    merging = Merging()
    same = document(A, "same")
    files = {A: content(same, document(A, "x", 1)), B: content(document(B, "y"))}
    merging.merge([[A, B]], files, set(), [])

    files[A] = content(same, document(A, "x", 2))
    merged = merging.merge([[A, B]], files, set(), [A])

    assert said(merged.changed) == [("x", 2)]
    assert merged.gone == ()
    assert said(merged.documents) == [("same", 0), ("x", 2), ("y", 0)]


def test_a_rewritten_file_under_a_later_layer_changes_nothing_that_is_seen() -> None:
    merging = Merging()
    files = {A: content(document(A, "x", 1)), B: content(document(B, "x", 2))}
    merging.merge([[A], [B]], files, set(), [])

    files[A] = content(document(A, "x", 3))
    merged = merging.merge([[A], [B]], files, set(), [A])

    assert merged.changed == ()
    assert said(merged.documents) == [("x", 2)]


def test_an_object_that_its_file_no_longer_holds_is_gone() -> None:
    merging = Merging()
    files = {A: content(document(A, "x"), document(A, "y"))}
    merging.merge([[A]], files, set(), [])

    files[A] = content(document(A, "y"))
    merged = merging.merge([[A]], files, set(), [A])

    assert [it.name for it in merged.gone] == ["x"]


def test_an_object_that_a_later_layer_no_longer_replaces_is_the_earlier_ones_again() -> None:
    merging = Merging()
    files = {A: content(document(A, "x", 1)), B: content(document(B, "x", 2), document(B, "y"))}
    merging.merge([[A], [B]], files, set(), [])

    files[B] = content(document(B, "y"))
    merged = merging.merge([[A], [B]], files, set(), [B])

    assert said(merged.changed) == [("x", 1)]
