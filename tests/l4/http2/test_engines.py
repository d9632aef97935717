"""The contract of `l4.http2.connection.Connection`, run over both engines. Names give the section of RFC 9113."""

import pytest

from l4.http2 import frames
from l4.http2.connection import Limits
from l4.http2.engines import Engine, connect
from l4.http2.errors import ErrorCode, StreamUnavailable
from l4.http2.events import (
    ConnectionFailed,
    DataReceived,
    GoawayReceived,
    InformationalReceived,
    PongReceived,
    RequestReceived,
    ResponseReceived,
    SettingsAcknowledged,
    SettingsChanged,
    StreamReset,
    TrailersReceived,
    WindowOpened,
)
from tests.contracts.http2_engine import CONNECT, GET, OK, Peer, data, kinds, split

BOTH = pytest.mark.parametrize("engine", list(Engine))
pytestmark = BOTH


def test_3_4_a_client_begins_with_the_preface_and_its_settings(engine: Engine) -> None:
    fresh = connect(engine, is_client=True, limits=Limits(stream_window=1 << 20, connection_window=16 << 20))

    fresh.start()
    output = fresh.take_output()

    assert output.startswith(frames.PREFACE)
    settings, update = split(output)
    assert dict(frames.parse_settings(settings[3]))[frames.INITIAL_WINDOW_SIZE] == 1 << 20
    assert dict(frames.parse_settings(settings[3]))[frames.ENABLE_PUSH] == 0
    assert update == (frames.WINDOW_UPDATE, 0, 0, ((16 << 20) - 65_535).to_bytes(4))


def test_3_4_a_server_refuses_what_is_not_the_preface(engine: Engine) -> None:
    fresh = connect(engine, is_client=False, limits=Limits())
    fresh.start()

    events = list(fresh.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0.0))

    assert [type(event) for event in events] == [ConnectionFailed]


def test_3_4_the_handshake_may_come_byte_by_byte(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    fresh = connect(engine, is_client=False, limits=Limits())
    fresh.start()

    events = [
        event
        for byte in frames.PREFACE + frames.settings_frame({}) + peer.headers(1, CONNECT)
        for event in fresh.receive(bytes([byte]), 0.0)
    ]

    assert [type(event) for event in events] == [SettingsChanged, RequestReceived]


def test_4_1_a_frame_larger_than_we_allow_ends_the_connection(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open()

    events = peer.give(frames.HEAD.pack(16_385 >> 8, 16_385 & 0xFF, frames.DATA, 0, 1) + bytes(16_385))

    assert isinstance(events[-1], ConnectionFailed)
    assert events[-1].code is ErrorCode.FRAME_SIZE_ERROR
    assert kinds(peer.take())[-1] == frames.GOAWAY


def test_4_1_a_larger_frame_passes_when_we_allow_it(engine: Engine) -> None:
    peer = Peer.client_of(engine, Limits(max_frame_size=1 << 20, stream_window=1 << 20))
    peer.open()

    events = peer.give(data(1, bytes(60_000)))

    assert events == [DataReceived(1, bytes(60_000), 60_000, False)]


def test_4_3_garbage_in_hpack_ends_the_connection(engine: Engine) -> None:
    peer = Peer.client_of(engine)

    events = peer.give(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff"))

    assert isinstance(events[-1], ConnectionFailed)
    assert events[-1].code in (ErrorCode.COMPRESSION_ERROR, ErrorCode.PROTOCOL_ERROR)  # the latter is the library's


def test_5_1_a_request_and_its_response_travel_both_ways(engine: Engine) -> None:
    server = Peer.client_of(engine)
    client = Peer.server_of(engine)

    assert server.open(GET, end_stream=True) == [RequestReceived(1, GET, True)]
    stream_id = client.connection.open_stream(GET, True)
    assert kinds(client.take()) == [frames.HEADERS]
    assert client.give(client.headers(stream_id, OK)) == [ResponseReceived(1, OK, False)]
    assert client.give(data(stream_id, b"body", end_stream=True)) == [DataReceived(1, b"body", 4, True)]
    assert client.connection.own_stream_count == 0


def test_5_1_data_on_a_stream_that_was_never_opened_ends_the_connection(engine: Engine) -> None:
    peer = Peer.client_of(engine)

    events = peer.give(data(5, b"x"))

    assert isinstance(events[-1], ConnectionFailed)
    assert events[-1].code is ErrorCode.PROTOCOL_ERROR


def test_5_1_data_after_the_end_of_a_stream_is_a_mistake_of_that_stream_or_worse(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open(end_stream=True)

    events = peer.give(data(1, b"x"))

    assert [type(event) for event in events] in ([StreamReset], [ConnectionFailed])
    assert getattr(events[0], "code", None) is ErrorCode.STREAM_CLOSED


def test_5_1_what_crosses_our_reset_is_forgiven(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open()
    peer.connection.reset(1, ErrorCode.CANCEL)

    events = peer.give(data(1, b"late") + data(1, b"later", end_stream=True))

    assert events == []
    assert peer.open(stream_id=3) == [RequestReceived(3, CONNECT, False)]


def test_5_1_1_stream_ids_must_grow(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open(GET, stream_id=5, end_stream=True)
    peer.connection.send_headers(5, OK, True)

    events = peer.open(stream_id=3)

    assert isinstance(events[-1], ConnectionFailed)


def test_5_1_2_streams_of_ours_are_limited_by_the_peer(engine: Engine) -> None:
    peer = Peer.server_of(engine, settings={frames.MAX_CONCURRENT_STREAMS: 1})
    peer.connection.open_stream(CONNECT, False)

    with pytest.raises(StreamUnavailable):
        peer.connection.open_stream(CONNECT, False)

    assert peer.connection.peer_max_concurrent_streams == 1
    assert peer.connection.own_stream_count == 1


def test_5_2_sendable_is_exactly_the_smaller_window(engine: Engine) -> None:
    peer = Peer.client_of(engine, settings={frames.INITIAL_WINDOW_SIZE: 100})
    peer.open()
    peer.connection.send_headers(1, OK, False)

    assert peer.connection.sendable(1) == 100
    peer.connection.send_data(1, bytes(70), False)
    assert peer.connection.sendable(1) == 30
    assert peer.give(frames.window_update_frame(1, 50)) == [WindowOpened(1)]
    assert peer.connection.sendable(1) == 80


def test_5_2_the_connection_window_holds_all_streams_back(engine: Engine) -> None:
    peer = Peer.client_of(engine, settings={frames.INITIAL_WINDOW_SIZE: 1 << 20, frames.MAX_FRAME_SIZE: 1 << 17})
    peer.open()
    peer.connection.send_headers(1, OK, False)

    peer.connection.send_data(1, bytes(65_535), False)

    assert peer.connection.sendable(1) == 0
    assert peer.give(frames.window_update_frame(0, 10)) == [WindowOpened(0)]
    assert peer.connection.sendable(1) == 10


def test_5_2_no_more_is_sent_than_the_window_takes(engine: Engine) -> None:
    peer = Peer.client_of(engine, settings={frames.INITIAL_WINDOW_SIZE: 10})
    peer.open()
    peer.connection.send_headers(1, OK, False)
    peer.take()

    assert peer.connection.send_data(1, b"0123456789abc", True) == 10
    assert peer.connection.send_data(1, b"abc", True) == 0
    assert peer.take() == [(frames.DATA, 0, 1, b"0123456789")]
    peer.give(frames.window_update_frame(1, 3))
    assert peer.connection.send_data(1, b"abc", True) == 3
    assert peer.take() == [(frames.DATA, frames.END_STREAM, 1, b"abc")]


def test_5_2_a_peer_that_overruns_its_window_is_stopped(engine: Engine) -> None:
    peer = Peer.client_of(engine, Limits(stream_window=65_535))
    peer.open()

    events = peer.give(b"".join(data(1, bytes(16_000)) for _ in range(5)))

    assert isinstance(events[-1], StreamReset | ConnectionFailed)
    assert events[-1].code is ErrorCode.FLOW_CONTROL_ERROR


def test_5_2_what_is_consumed_can_be_sent_again_for_ever(engine: Engine) -> None:
    peer = Peer.client_of(engine, Limits(stream_window=65_535, connection_window=65_535))
    peer.open()
    stream_window = connection_window = 65_535

    for _ in range(100):
        for event in peer.give(data(1, bytes(10_000))):
            assert isinstance(event, DataReceived)
            peer.connection.consume(1, event.flow_length)
        stream_window -= 10_000
        connection_window -= 10_000
        for kind, _, stream_id, payload in peer.take():
            assert kind == frames.WINDOW_UPDATE
            if stream_id:
                stream_window += int.from_bytes(payload)
            else:
                connection_window += int.from_bytes(payload)
        assert 0 < stream_window <= 65_535
        assert 0 < connection_window <= 65_535


def test_5_2_padding_counts_in_the_window_but_not_as_data(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open()

    events = peer.give(data(1, b"abc", padding=10))

    assert events == [DataReceived(1, b"abc", 14, False)]


def test_5_5_unknown_frames_are_ignored(engine: Engine) -> None:
    peer = Peer.client_of(engine)

    assert peer.give(frames.frame(0xFA, 0xFF, 0, b"whatever")) == []
    assert peer.open() == [RequestReceived(1, CONNECT, False)]


def test_6_2_a_head_in_pieces_is_one_head(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    block = peer.encoder.encode(CONNECT)

    events = peer.give(
        frames.frame(frames.HEADERS, 0, 1, block[:3])
        + frames.frame(frames.CONTINUATION, 0, 1, block[3:5])
        + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[5:])
    )

    assert events == [RequestReceived(1, CONNECT, False)]


def test_a_head_is_under_way_from_its_first_bytes_to_its_last(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    block = peer.encoder.encode(CONNECT)
    first = frames.frame(frames.HEADERS, 0, 1, block[:3])
    last = frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[3:])

    since = []
    for now, piece in enumerate([first[:9], first[9:], last[:9], last[9:]], 1):
        peer.now = float(now)
        peer.give(piece)
        since.append(peer.connection.head_since)

    assert since == [1.0, 1.0, 1.0, None]


def test_a_body_under_way_is_no_head(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open()

    peer.give(data(1, b"abc")[:-1])

    assert peer.connection.head_since is None


def test_6_2_a_head_must_not_be_interrupted(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    block = peer.encoder.encode(CONNECT)

    events = peer.give(frames.frame(frames.HEADERS, 0, 1, block[:3]) + frames.frame(frames.PING, 0, 0, bytes(8)))

    assert isinstance(events[-1], ConnectionFailed)
    assert events[-1].code is ErrorCode.PROTOCOL_ERROR


def test_6_4_a_reset_ends_the_stream_and_nothing_else(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open(stream_id=1)
    peer.open(stream_id=3)

    events = peer.give(frames.rst_stream_frame(1, ErrorCode.CANCEL))

    assert [(type(e), e.stream_id, e.code, e.by_peer) for e in events if isinstance(e, StreamReset)] == [
        (StreamReset, 1, ErrorCode.CANCEL, True)
    ]
    assert peer.connection.sendable(1) == 0
    assert peer.give(data(3, b"alive")) == [DataReceived(3, b"alive", 5, False)]
    assert peer.connection.peer_stream_count == 1


def test_6_4_our_reset_is_sent_once(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open()

    peer.connection.reset(1, ErrorCode.CANCEL)
    peer.connection.reset(1, ErrorCode.CANCEL)

    assert peer.take() == [(frames.RST_STREAM, 0, 1, bytes([0, 0, 0, 8]))]
    with pytest.raises(StreamUnavailable):
        peer.connection.send_headers(1, OK, False)


def test_6_5_settings_are_acknowledged(engine: Engine) -> None:
    peer = Peer.client_of(engine)

    events = peer.give(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 5}))

    assert events == [SettingsChanged()]
    assert peer.take() == [(frames.SETTINGS, frames.ACK, 0, b"")]


def test_6_5_an_acknowledgement_of_ours_is_told(engine: Engine) -> None:
    fresh = connect(engine, is_client=False, limits=Limits())
    fresh.start()

    events = list(
        fresh.receive(frames.PREFACE + frames.settings_frame({}) + frames.frame(frames.SETTINGS, frames.ACK, 0), 0.0)
    )

    assert events == [SettingsChanged(), SettingsAcknowledged()]


@pytest.mark.parametrize("value", [1 << 31, (1 << 32) - 1])
def test_6_5_2_an_impossible_window_ends_the_connection(engine: Engine, value: int) -> None:
    peer = Peer.client_of(engine)

    events = peer.give(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: value}))

    assert isinstance(events[-1], ConnectionFailed)
    assert events[-1].code is ErrorCode.FLOW_CONTROL_ERROR


def test_6_7_a_ping_is_answered_with_its_payload(engine: Engine) -> None:
    peer = Peer.client_of(engine)

    peer.give(frames.frame(frames.PING, 0, 0, b"12345678"))

    assert peer.take() == [(frames.PING, frames.ACK, 0, b"12345678")]


def test_6_7_an_answer_to_ours_is_told(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.connection.ping(b"abcdefgh")

    events = peer.give(frames.frame(frames.PING, frames.ACK, 0, b"abcdefgh"))

    assert events == [PongReceived(b"abcdefgh")]


def test_6_7_a_ping_is_answered_though_every_stream_is_blocked(engine: Engine) -> None:
    peer = Peer.client_of(engine, settings={frames.INITIAL_WINDOW_SIZE: 0})
    peer.open()
    peer.connection.send_headers(1, OK, False)
    peer.take()

    peer.give(frames.frame(frames.PING, 0, 0, b"12345678"))

    assert kinds(peer.take()) == [frames.PING]


def test_6_8_streams_under_way_outlive_the_peers_goaway(engine: Engine) -> None:
    peer = Peer.server_of(engine)
    stream_id = peer.connection.open_stream(CONNECT, False)
    peer.give(peer.headers(stream_id, OK))

    events = peer.give(frames.goaway_frame(stream_id, ErrorCode.NO_ERROR, b"bye") + data(stream_id, b"still here"))

    assert events == [
        GoawayReceived(ErrorCode.NO_ERROR, stream_id, b"bye"),
        DataReceived(stream_id, b"still here", 10, False),
    ]
    peer.connection.send_data(stream_id, b"so am I", True)


def test_6_8_after_our_goaway_new_streams_are_not_taken(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open(stream_id=1)
    peer.connection.goaway(ErrorCode.NO_ERROR)

    assert peer.open(stream_id=3) == []
    assert peer.give(data(1, b"goes on")) == [DataReceived(1, b"goes on", 7, False)]
    assert peer.take()[0] == (frames.GOAWAY, 0, 0, bytes([0, 0, 0, 1, 0, 0, 0, 0]))


def test_6_9_a_window_update_of_zero_is_a_mistake(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open()

    events = peer.give(frames.window_update_frame(1, 0))

    assert isinstance(events[-1], StreamReset | ConnectionFailed)
    assert events[-1].code is ErrorCode.PROTOCOL_ERROR


def test_6_9_1_a_window_must_not_overflow(engine: Engine) -> None:
    peer = Peer.client_of(engine)

    events = peer.give(frames.window_update_frame(0, frames.MAX_WINDOW))

    assert isinstance(events[-1], ConnectionFailed)
    assert events[-1].code is ErrorCode.FLOW_CONTROL_ERROR


def test_6_9_2_a_smaller_initial_window_can_make_a_window_negative(engine: Engine) -> None:
    peer = Peer.client_of(engine, settings={frames.INITIAL_WINDOW_SIZE: 100})
    peer.open()
    peer.connection.send_headers(1, OK, False)
    peer.connection.send_data(1, bytes(90), False)

    peer.give(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 20}))

    assert peer.connection.sendable(1) == 0
    peer.give(frames.window_update_frame(1, 71))
    assert peer.connection.sendable(1) == 1


def test_6_9_1_the_end_of_a_stream_needs_no_window(engine: Engine) -> None:
    peer = Peer.client_of(engine, settings={frames.INITIAL_WINDOW_SIZE: 100})
    peer.open()
    peer.connection.send_headers(1, OK, False)
    peer.connection.send_data(1, bytes(90), False)
    peer.give(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 20}))
    peer.take()

    peer.connection.send_data(1, b"", True)

    assert peer.take() == [(frames.DATA, frames.END_STREAM, 1, b"")]


def test_6_9_data_is_split_by_the_peers_largest_frame(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open()
    peer.connection.send_headers(1, OK, False)
    peer.take()

    peer.connection.send_data(1, bytes(40_000), True)

    sent = peer.take()
    assert [len(payload) for _, _, _, payload in sent] == [16_384, 16_384, 7_232]
    assert [flags for _, flags, _, _ in sent] == [0, 0, frames.END_STREAM]


def test_8_1_an_informational_head_comes_before_the_response(engine: Engine) -> None:
    peer = Peer.server_of(engine)
    stream_id = peer.connection.open_stream(GET, True)
    hints = [(b":status", b"103"), (b"link", b"</a.css>")]

    assert peer.give(peer.headers(stream_id, hints)) == [InformationalReceived(stream_id, hints)]
    assert peer.give(peer.headers(stream_id, OK, end_stream=True)) == [ResponseReceived(stream_id, OK, True)]


def test_8_1_trailers_end_a_message(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open(GET)

    events = peer.give(data(1, b"x") + peer.headers(1, [(b"checksum", b"1")], end_stream=True))

    assert events == [DataReceived(1, b"x", 1, False), TrailersReceived(1, [(b"checksum", b"1")])]


def test_8_1_what_was_a_head_is_no_trailers_for_that(engine: Engine) -> None:
    client, server = Peer.client_of(engine), Peer.server_of(engine)
    server.connection.open_stream(GET, True)

    for peer, head in ((client, GET), (server, OK)):
        peer.give(peer.headers(1, head))
        again = peer.headers(1, head)
        assert again == peer.headers(1, head)

        events = peer.give(again[:4] + bytes([again[4] | frames.END_STREAM]) + again[5:])

        assert isinstance(events[-1], StreamReset | ConnectionFailed)
        assert not [event for event in events if isinstance(event, TrailersReceived)]


def test_8_1_what_was_trailers_is_no_head_for_that(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    fields = [(b"checksum", b"1")]
    peer.open(GET)
    first = peer.give(peer.headers(1, fields, end_stream=True))
    peer.give(peer.headers(3, GET) + peer.headers(3, fields, end_stream=True))

    events = peer.give(peer.headers(5, fields, end_stream=True))

    assert first == [TrailersReceived(1, fields)]
    assert isinstance(events[-1], StreamReset | ConnectionFailed)


def test_4_3_the_same_bytes_mean_something_else_when_the_table_has_changed(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    rest = b"\x86\x84\x41\x01a"  # :scheme, :path, and :authority, which is put into the table
    peer.give(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, b"\x82" + rest + b"\x40\x01x\x01a"))
    same = b"\x82\x86\x84\xbf\xbe"  # what was put there last, and what before

    told = [peer.give(frames.frame(frames.HEADERS, frames.END_HEADERS, 3 + 2 * n, same)) for n in range(2)]
    peer.give(frames.frame(frames.HEADERS, frames.END_HEADERS, 7, b"\x82\x86\x84\x41\x01b\x40\x01x\x01b"))
    told.append(peer.give(frames.frame(frames.HEADERS, frames.END_HEADERS, 9, same)))

    values = [event.headers[3:] for events in told for event in events if isinstance(event, RequestReceived)]
    assert values == [[(b":authority", it), (b"x", it)] for it in (b"a", b"a", b"b")]


@pytest.mark.parametrize(
    "headers",
    [
        [(b":method", b"GET"), (b":path", b"/"), (b":authority", b"a")],
        [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b""), (b":authority", b"a")],
        [*GET, (b"Upper", b"x")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b":late", b"x")],
        [*GET, (b"a", b"b\r\nc: d")],
        [*GET, (b"host", b"another")],
        [(b":method", b"CONNECT"), (b":authority", b"a:1"), (b":path", b"/")],
        [(b":method", b"CONNECT")],
        [*CONNECT, (b":method", b"GET")],
    ],
)
def test_8_3_a_malformed_head_opens_nothing(engine: Engine, headers: list[tuple[bytes, bytes]]) -> None:
    peer = Peer.client_of(engine)

    events = peer.open(headers)

    assert not [event for event in events if isinstance(event, RequestReceived)]
    assert kinds(peer.take())[-1] in (frames.RST_STREAM, frames.GOAWAY)


def test_8_1_1_a_body_must_be_as_long_as_it_says(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.open([*GET, (b"content-length", b"5")])

    events = peer.give(data(1, b"1234", end_stream=True))

    assert not [event for event in events if isinstance(event, DataReceived)]
    assert kinds(peer.take())[-1] in (frames.RST_STREAM, frames.GOAWAY)


def test_10_5_one_head_in_endless_pieces_is_cut(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    pieces = frames.frame(frames.HEADERS, 0, 1, b"") + frames.frame(frames.CONTINUATION, 0, 1, b"") * 100

    events = peer.give(pieces)

    assert isinstance(events[-1], ConnectionFailed)


def test_10_5_1_a_head_larger_than_we_allow_is_refused(engine: Engine) -> None:
    peer = Peer.client_of(engine, Limits(max_header_list_size=1000))

    events = peer.open([*CONNECT, (b"x", b"y" * 1000)])

    assert not [event for event in events if isinstance(event, RequestReceived)]


def test_nothing_is_read_after_the_connection_failed(engine: Engine) -> None:
    peer = Peer.client_of(engine)
    peer.give(data(0, b"x"))

    assert peer.open() == []
