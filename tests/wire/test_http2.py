"""Every frame script of the corpus through both engines, cut in every way."""

from collections import Counter
from dataclasses import dataclass, field, fields

import pytest

from l4.http2 import frames
from l4.http2.connection import Connection, Engine, Limits, connect
from l4.http2.errors import ErrorCode
from l4.http2.events import (
    ConnectionFailed,
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from l4.http2.flood import FloodLimits
from tests.contracts.http2_engine import GET, split
from tests.wire.corpus import Http2Case, cuts, http2
from tests.wire.frame_script import Writer

CASES = http2()
FLOOD = {it.name for it in fields(FloodLimits)}
LONG = 10_000
"""Longer scripts are not fed byte by byte: nothing in them depends on it that shorter ones would not show."""


@dataclass
class Verdict:
    delivered: dict[int, str] = field(default_factory=dict)
    resets: dict[int, str] = field(default_factory=dict)
    goaway: str = ""
    limit: str = ""


@dataclass
class Receiver:
    """The side that the frames come to."""

    connection: Connection
    is_unread: bool
    verdict: Verdict = field(default_factory=Verdict)
    messages: dict[int, list[str]] = field(default_factory=dict)
    is_over: bool = False

    def receive(self, data: bytes) -> None:
        for event in self.connection.receive(data, 1000.0):
            self._take(event)
        for kind, _, _, payload in split(self.connection.take_output()):
            if kind == frames.GOAWAY:
                self.verdict.goaway = ErrorCode(int.from_bytes(payload[4:8])).name

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id, headers, end_stream):
                head = dict(headers)
                self.messages[stream_id] = [head[b":method"].decode(), head[b":path"].decode(), ""]
                self._ended(stream_id, end_stream)
            case ResponseReceived(stream_id, headers, end_stream):
                self.messages[stream_id] = [dict(headers)[b":status"].decode(), ""]
                self._ended(stream_id, end_stream)
            case DataReceived(stream_id=stream_id):
                if not self.is_unread:
                    self.connection.consume(stream_id, event.flow_length)
                self.messages[stream_id][-1] += event.data.decode()
                self._ended(stream_id, event.end_stream)
            case TrailersReceived(stream_id):
                self._ended(stream_id, True)
            case StreamReset(stream_id, code, by_peer=False):
                self.verdict.resets[stream_id] = code.name
                self.verdict.limit = event.reason
            case ConnectionFailed():
                self.verdict.limit = event.reason
                self.is_over = True

    def _ended(self, stream_id: int, end_stream: bool) -> None:
        if end_stream:
            self.verdict.delivered[stream_id] = " ".join(filter(None, self.messages[stream_id]))


def receiver(case: Http2Case, engine: Engine) -> Receiver:
    """With the handshake behind it, and two requests under way when it is the client."""
    flood = FloodLimits(**{name: value for name, value in case.limits.items() if name in FLOOD})
    others = {name: value for name, value in case.limits.items() if name not in FLOOD}
    limits = Limits(**{"allow_connect_protocol": True, **others}, flood=flood)
    it = Receiver(connect(engine, is_client=not case.is_client, limits=limits), case.is_unread)
    it.connection.start()
    it.receive((frames.PREFACE if case.is_client else b"") + frames.settings_frame({}))
    it.receive(frames.frame(frames.SETTINGS, frames.ACK, 0))
    if not case.is_client:
        for _ in range(2):
            it.connection.open_stream(GET, True)
        it.connection.take_output()
    return it


def read(case: Http2Case, engine: Engine, pieces: list[bytes]) -> Verdict:
    it = receiver(case, engine)
    for piece in pieces:
        if not it.is_over:
            it.receive(piece)
    return it.verdict


def test_the_corpus_has_scripts_of_every_kind() -> None:
    names = Counter(case.name for case in CASES)

    assert [name for name, count in names.items() if count > 1] == []
    assert {case.is_client for case in CASES} == {True, False}


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frames_mean_the_same_however_they_are_cut(case: Http2Case, engine: Engine) -> None:
    wire = list(Writer().write(case.script))
    message = b"".join(wire)

    for pieces in [wire, *cuts(message)]:
        if len(pieces) <= LONG:
            _check(case, engine, read(case, engine, pieces))


def _check(case: Http2Case, engine: Engine, verdict: Verdict) -> None:
    if engine is Engine.H2 and case.by_the_library:
        assert verdict.goaway == case.by_the_library
        assert verdict.delivered.items() <= case.delivered.items()
    elif case.goaway == ErrorCode.ENHANCE_YOUR_CALM.name:  # how far the peer came before that is its own matter
        assert (verdict.goaway, verdict.limit) == (case.goaway, case.limit)
    else:
        assert verdict == Verdict(case.delivered, case.resets, case.goaway, case.limit)
