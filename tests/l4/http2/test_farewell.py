import pytest

from l4.http2 import frames
from l4.http2.connection import Connection, Limits
from l4.http2.engines import Engine, connect
from l4.http2.farewell import Farewell
from tests.contracts.http2_engine import CONNECT, Peer, split

pytestmark = pytest.mark.parametrize("engine", list(Engine))


def served(engine: Engine) -> tuple[Connection, Peer]:
    """A server, and its client's raw side, which has opened a stream."""
    server = connect(engine, is_client=False, limits=Limits())
    server.start()
    peer = Peer.client_of(engine)
    list(server.receive(frames.PREFACE + frames.settings_frame({}) + peer.headers(1, CONNECT), 0.0))
    server.take_output()
    return server, peer


def last_streams(server: Connection) -> list[int]:
    found = split(server.take_output())
    return [int.from_bytes(payload[:4], "big") for kind, _, _, payload in found if kind == frames.GOAWAY]


def test_the_peer_is_told_before_its_streams_are_final(engine: Engine) -> None:
    server, peer = served(engine)
    farewell = Farewell(server)

    farewell.announce()
    farewell.announce()
    announced = last_streams(server)
    list(server.receive(peer.headers(3, CONNECT), 0.0))  # sent before the peer has read it
    finished = farewell.finish(), farewell.finish()

    assert announced == [2**31 - 1]
    assert finished == (True, False)
    assert last_streams(server) == [3]


def test_a_client_names_no_stream_of_its_own(engine: Engine) -> None:
    client = connect(engine, is_client=True, limits=Limits())
    client.start()
    client.open_stream(CONNECT, False)
    client.take_output()
    farewell = Farewell(client)

    farewell.announce()
    farewell.finish()

    assert last_streams(client) == [0, 0]


def test_only_the_answer_to_its_own_question_shows_that_the_peer_has_read_the_announcement(engine: Engine) -> None:
    server, _ = served(engine)
    farewell = Farewell(server)
    farewell.ask()
    ((_, _, _, question),) = split(server.take_output())

    before = farewell.hears(question)
    farewell.announce()
    other = farewell.hears(b"another!")
    heard_before, heard = farewell.is_heard, farewell.hears(question)

    assert (before, other, heard_before) == (False, False, False)
    assert heard
    assert farewell.is_heard
