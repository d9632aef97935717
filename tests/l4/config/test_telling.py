import logging
from collections.abc import Iterable

import pytest

from l4.config.codes import Code, DocumentCode
from l4.config.documents import Document, FileOrigin, ObjectKey, Problem
from l4.config.inventory import Inventory
from l4.config.source import Documents
from l4.config.telling import ChangeWords, Telling
from waypoint.ask.codes import LintCode

LOG = logging.getLogger("tests.telling")


def problem(line: int = 1, sentence: str = "is wrong", code: Code = DocumentCode.INVALID) -> Problem:
    return Problem(FileOrigin("a.yaml", line), "HTTPRoute default/a", "spec", sentence, code)


def document(name: str, **content: object) -> Document:
    return Document(ObjectKey("", "Service", "default", name), content, FileOrigin(f"{name}.yaml", 1))


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return told


def test_each_problem_is_told_once_and_when_it_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    telling = Telling(LOG)

    telling.tell([problem()])
    first = lines(caplog)
    telling.tell([problem(line=7)])
    moved = lines(caplog)
    telling.tell([problem(sentence="is wrong in another way")])
    other = lines(caplog)
    telling.tell([])
    gone = lines(caplog)
    telling.tell([problem()])

    assert first == [("WARNING", "a.yaml:1: HTTPRoute default/a spec: is wrong [PWP0001]")]
    assert moved == []
    assert other == [
        ("INFO", "resolved: a.yaml:7: HTTPRoute default/a spec: is wrong [PWP0001]"),
        ("WARNING", "a.yaml:1: HTTPRoute default/a spec: is wrong in another way [PWP0001]"),
    ]
    assert len(gone) == 1
    assert lines(caplog) == first


def test_what_is_good_to_know_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    Telling(LOG).tell([problem(code=LintCode.BACKEND_NEVER_COUNTS)])

    assert [level for level, _ in lines(caplog)] == ["INFO"]


def words_of(states: Iterable[Iterable[Document]], *, accepts: bool = True) -> list[str]:
    changes, inventory, said = ChangeWords(), Inventory(), []
    for documents in states:
        changes.note(inventory.take(Documents(tuple(documents))))
        said.append(changes.words())
        if accepts or len(said) == 1:
            changes.accept()
    return said


def test_what_changed_is_said_by_name_and_place() -> None:
    before = [document("a"), document("b"), document("c")]
    after = [document("a", x=1), document("b"), document("d")]

    assert words_of([before, before, after, after]) == [
        "",
        "",
        "new: Service default/d (d.yaml:1); changed: Service default/a (a.yaml:1); gone: Service default/c",
        "",
    ]


def test_changes_that_were_not_accepted_are_said_with_the_next_ones() -> None:
    states = [[document("a")], [document("a", x=1), document("b")], [document("a", x=1), document("c")], []]

    assert words_of(states, accepts=False)[1:] == [
        "new: Service default/b (b.yaml:1); changed: Service default/a (a.yaml:1)",
        "new: Service default/c (c.yaml:1); changed: Service default/a (a.yaml:1)",
        "gone: Service default/a",
    ]


def test_of_many_changes_a_few_are_named() -> None:
    _, said = words_of([[], [document(f"s{number}") for number in range(9)]])

    assert said.endswith("Service default/s4 (s4.yaml:1) and 4 more")
