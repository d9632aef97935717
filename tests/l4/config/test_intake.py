"""Answers of a source become objects, with the changes and the unknown documents among them."""

from l4.config import manifest
from l4.config.documents import Document, FileOrigin, Problem
from l4.config.doubts import EVERYWHERE, Doubt
from l4.config.intake import Intake
from l4.config.source import Changes, Documents
from l4.discovery.kubernetes import KINDS
from l4.discovery.objects import ServiceObject

UNREADABLE = Problem(FileOrigin("b.yaml"), "b.yaml", "", "cannot be read")


def documents(*names: str, kind: str = "Service") -> tuple[Document, ...]:
    text = "\n---\n".join(f"{{apiVersion: v1, kind: {kind}, metadata: {{name: {name}}}}}" for name in names)
    return tuple(manifest.parse("a.yaml", text.encode())[0])


def names(intake_resources: object) -> list[str]:
    return [it.key.name for it in intake_resources.of(ServiceObject)]  # type: ignore[attr-defined]


def test_changes_are_decoded_by_themselves() -> None:
    it = Intake(KINDS)

    first = it.take(Documents(documents("a", "b")))
    (b,) = documents("c")
    second = it.take(Changes((b,), (first.documents[0].key,)))

    assert first.changes is None
    assert second.changes is not None
    assert [(it.before and it.before.key.name, it.after and it.after.key.name) for it in second.changes] == [
        ("a", None),
        (None, "c"),
    ]
    assert names(second.resources) == [it.key.name for it in second.documents] == ["b", "c"]


def test_a_policy_that_may_be_missing_denies_until_everything_was_understood_once() -> None:
    it = Intake(KINDS)
    doubt, held = (Doubt(UNREADABLE, has_last_good, EVERYWHERE) for has_last_good in (False, True))

    at_first = it.take(Documents((), (UNREADABLE,), (doubt,)))
    then = it.take(Changes())
    later = it.take(Changes((), (), (UNREADABLE,), (held,)))

    assert (at_first.denied, at_first.is_understood) == (frozenset({EVERYWHERE}), False)
    assert (then.denied, then.is_understood) == (frozenset(), True)
    assert (later.denied, later.is_understood, later.problems) == (frozenset(), True, frozenset({UNREADABLE}))


def test_kinds_that_nobody_asked_for_are_counted() -> None:
    taken = Intake(KINDS).take(Documents(documents("a", "b", kind="Secret")))

    assert taken.ignored == {"Secret": 2}
