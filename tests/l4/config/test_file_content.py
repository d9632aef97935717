"""The content of one file, given its previous content."""

import os
from pathlib import Path

import pytest

from l4.config import file_content
from l4.config.file_content import CHANGED_SECONDS, LOST_SECONDS, FileContent
from l4.config.forms import Forms
from l4.config.rereading import Reader
from l4.config.status import version_of

DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny}
spec: {action: DENY, rules: [{to: [{operation: {methods: [METHOD]}}]}]}
"""
REFUSED = DENY.replace("name: deny", "namespace: a")
REFUSED_AMONG_OTHERS = REFUSED + "---\n{apiVersion: v1, kind: Pod, metadata: {name: a}}"


def read(path: Path, known: FileContent | None = None, now: float = 0.0) -> FileContent:
    reader = Reader(str(path), Forms())
    return file_content.read(path, version_of(path), known or FileContent(None), now, reader)


def methods(content: FileContent) -> list[str]:
    return [it.content["spec"]["rules"][0]["to"][0]["operation"]["methods"][0] for it in content.documents]


def test_a_policy_that_changes_counts_once_its_file_was_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(DENY.replace("METHOD", "GET"))
    before = read(path)
    path.write_text(DENY.replace("METHOD", "POST"))

    at_once = read(path, before, 10.0)
    later = read(path, at_once, 10.0 + CHANGED_SECONDS)

    assert (methods(at_once), at_once.version) == (["GET"], None)
    assert [doubt.has_last_good for doubt in at_once.doubts] == [True]
    assert (methods(later), later.doubts) == (["POST"], [])


def test_a_write_in_between_begins_the_wait_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(DENY.replace("METHOD", "GET"))
    content = read(path)

    for now, method in ((10.0, "POST"), (10.0 + CHANGED_SECONDS * 0.9, "PUT")):
        path.write_text(DENY.replace("METHOD", method))
        content = read(path, content, now)

    assert methods(read(path, content, 10.0 + CHANGED_SECONDS)) == ["GET"]
    assert methods(read(path, content, 10.0 + CHANGED_SECONDS * 1.9)) == ["PUT"]


def test_a_policy_that_is_lost_counts_later_than_one_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(DENY)
    before = read(path)
    path.write_text("{apiVersion: v1, kind: Pod, metadata: {name: a}}")

    at_once = read(path, before, 10.0)

    assert [it.key.kind for it in read(path, at_once, 10.0 + CHANGED_SECONDS).documents] == ["AuthorizationPolicy"]
    assert [it.key.kind for it in read(path, at_once, 10.0 + LOST_SECONDS).documents] == ["Pod"]


def test_a_named_pipe_is_no_file_and_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")

    content = read(tmp_path / "a.yaml")

    assert [doubt.problem.sentence.partition(":")[0] for doubt in content.doubts] == ["cannot be read"]


def test_a_file_that_becomes_a_named_pipe_keeps_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(DENY)
    before = read(path)
    path.unlink()
    os.mkfifo(path)

    after = read(path, before)
    from_the_start = read(path)

    assert after.documents == before.documents
    assert [doubt.has_last_good for doubt in after.doubts] == [True]
    assert [doubt.has_last_good for doubt in from_the_start.doubts] == [False]


@pytest.mark.parametrize("text", ["a: [", REFUSED, REFUSED_AMONG_OTHERS])
@pytest.mark.parametrize("then", ["", "a: ["])
def test_what_was_never_understood_stays_a_doubt_while_the_file_is_written_anew(
    tmp_path: Path, text: str, then: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    before = read(path)
    path.write_text(then)

    after = read(path, before)

    assert before.never_understood
    assert after.never_understood


def test_what_was_never_understood_stays_a_doubt_while_another_policy_of_the_file_waits(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"{REFUSED}---{DENY.replace('METHOD', 'GET')}")
    before = read(path)
    path.write_text(f"{REFUSED}---{DENY.replace('METHOD', 'POST')}")

    waiting = read(path, before, 10.0)

    assert waiting.waits is not None
    assert waiting.never_understood == before.never_understood != []
