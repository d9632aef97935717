"""Every frame script of the corpus through both engines, cut in every way."""

from collections import Counter

import pytest

from l4.http2.connection import Engine
from l4.http2.errors import ErrorCode
from tests.wire.corpus import Http2Case, cuts, http2
from tests.wire.frame_script import Writer
from tests.wire.verdicts import FramesVerdict, read_frames

CASES = http2()
LONG = 10_000
"""Longer scripts are not fed byte by byte: nothing in them depends on it that shorter ones would not show."""


def test_the_corpus_has_scripts_of_every_kind() -> None:
    names = Counter(case.name for case in CASES)

    assert [name for name, count in names.items() if count > 1] == []
    assert {case.is_client for case in CASES} == {True, False}


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frames_mean_the_same_however_they_are_cut(case: Http2Case, engine: Engine) -> None:
    wire = list(Writer().write(case.script))

    for pieces in [wire, *cuts(b"".join(wire))]:
        if len(pieces) <= LONG:
            _check(
                case,
                engine,
                read_frames(engine, pieces, is_client=case.is_client, limits=case.limits, is_unread=case.is_unread),
            )


def _check(case: Http2Case, engine: Engine, verdict: FramesVerdict) -> None:
    if engine is Engine.H2 and case.by_the_library:
        assert verdict.goaway == case.by_the_library
        assert verdict.delivered.items() <= case.delivered.items()
    elif case.goaway == ErrorCode.ENHANCE_YOUR_CALM.name:  # how far the peer came before that is its own matter
        assert (verdict.goaway, verdict.limit) == (case.goaway, case.limit)
    else:
        assert verdict == FramesVerdict(case.delivered, case.resets, case.goaway, case.limit)
