"""Every message is fed whole, byte by byte and at random cuts, and must mean the same each time.

It must also mean the same after other messages and after itself: a reader does not parse again what its peer repeats.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from policies.attributes import Header, Headers, RequestHead, ResponseHead
from waypoint.errors import BadRequest, ExchangeError, RouteNotFound, UpgradeRefused, UpstreamProtocolError
from waypoint.http import h1_format, h1_request, h1_response
from waypoint.http.events import EMPTY, OPAQUE, STREAMED, Body
from waypoint.http.settings import HttpSettings

MAX_BYTES = 1_000
MAX_FIELDS = 10
SETTINGS = HttpSettings(head_bytes=MAX_BYTES, head_fields=MAX_FIELDS, chunk_extension_bytes=20)
END: tuple[str, Headers] = ("end", [])


class Recorder:
    """What a reader tells, in order; body bytes in a row are one event."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def request_head(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None:
        self.events.append((replace(head, headers=head.headers.copy()), body, is_kept_alive))
        head.headers.append((b"of-an-exchange", b"which changes the head"))
        head.path = b"/rewritten"

    def informational_head(self, head: ResponseHead) -> None:
        self.events.append(head)

    def response_head(self, head: ResponseHead, body: Body, is_kept_alive: bool) -> None:
        self.events.append((replace(head, headers=head.headers.copy()), body, is_kept_alive))
        head.headers.append((b"of-an-exchange", b"which changes the head"))
        head.status = 599

    def request_body(self, data: bytes) -> None:
        last = self.events[-1]
        if isinstance(last, bytes):
            self.events[-1] = last + data
        else:
            self.events.append(data)

    response_body = request_body

    def request_end(self, trailers: Headers) -> None:
        self.events.append(("end", trailers))

    response_end = request_end


def cuts(message: bytes) -> Iterator[list[bytes]]:
    """The message whole, byte by byte, and cut at random."""
    yield [message]
    yield [message[i : i + 1] for i in range(len(message))]
    chance = random.Random(message)
    for _ in range(10):
        places = sorted(chance.sample(range(1, len(message)), min(len(message) - 1, chance.randint(1, 6))))
        yield [message[start:end] for start, end in zip([0, *places], [*places, len(message)], strict=True)]


Outcome = tuple[list[object], ExchangeError | None]


def feed(feed_one: Callable[[bytes], None], events: list[object], pieces: list[bytes]) -> Outcome:
    try:
        for piece in pieces:
            feed_one(piece)
    except ExchangeError as error:
        return events, error
    return events, None


def read_requests(message: bytes) -> Outcome:
    outcomes: list[Outcome] = []
    for pieces in cuts(message):
        recorder = Recorder()
        reader = h1_request.RequestReader(recorder, SETTINGS)
        outcomes.append(feed(reader.feed, recorder.events, pieces))
    first, error = outcomes[0]
    assert [(events, type(it), str(it)) for events, it in outcomes] == [(first, type(error), str(error))] * 12
    for before in (POST + b"Content-Length: 2\r\n\r\nab", message) if stays_open(first, error) else (GET + b"\r\n",):
        after_others = read_requests_after(before, [message])
        assert (after_others[0], type(after_others[1]), str(after_others[1])) == (first, type(error), str(error))
    return first, error


def stays_open(events: list[object], error: ExchangeError | None) -> bool:
    """Whether the events are complete messages, after which there may be others."""
    kept = [it[2] for it in events if isinstance(it, tuple) and len(it) == 3]
    return error is None and bool(kept) and all(kept) and isinstance(events[-1], tuple) and events[-1][0] == "end"


def read_requests_after(before: bytes, pieces: list[bytes]) -> Outcome:
    """What a message means after three others, of which the second one's head is kept."""
    recorder = Recorder()
    reader = h1_request.RequestReader(recorder, SETTINGS)
    for _ in range(3):
        reader.feed(before)
    recorder.events.clear()
    return feed(reader.feed, recorder.events, pieces)


def read_response(message: bytes, method: bytes = b"GET", *, ends: bool = False) -> Outcome:
    """`ends`: the endpoint closes the connection after the message."""
    outcomes: list[Outcome] = []
    for pieces in cuts(message):
        recorder = Recorder()
        reader = h1_response.ResponseReader(recorder, SETTINGS)
        reader.expect(method)
        outcomes.append(feed(reader.feed, recorder.events, pieces))
        if ends:
            assert reader.feed_eof()
    first, error = outcomes[0]
    assert [(events, type(it)) for events, it in outcomes] == [(first, type(error))] * 12
    for before in (OK + b"Content-Length: 2\r\n\r\nab", *[message] * stays_open(first, error)):
        after_others, its_error = read_response_after(before, [message], method, ends=ends)
        assert (after_others, type(its_error)) == (first, type(error))
    return first, error


def read_response_after(before: bytes, pieces: list[bytes], method: bytes = b"GET", *, ends: bool = False) -> Outcome:
    """What a response means after three others, of which the second one's head is kept."""
    recorder = Recorder()
    reader = h1_response.ResponseReader(recorder, SETTINGS)
    for _ in range(3):
        reader.expect(b"GET" if before is not pieces[0] else method)
        reader.feed(before)
    recorder.events.clear()
    reader.expect(method)
    outcome = feed(reader.feed, recorder.events, pieces)
    assert not ends or reader.feed_eof()
    return outcome


def requests(message: bytes) -> list[object]:
    events, error = read_requests(message)
    assert error is None
    return events


def refused_request(message: bytes) -> tuple[list[object], int]:
    events, error = read_requests(message)
    assert error is not None
    return events, error.status


def response(message: bytes, method: bytes = b"GET", *, ends: bool = False) -> list[object]:
    events, error = read_response(message, method, ends=ends)
    assert error is None
    return events


def refused_response(message: bytes, method: bytes = b"GET") -> list[object]:
    events, error = read_response(message, method)
    assert isinstance(error, UpstreamProtocolError)
    return events


def get(path: bytes = b"/", *fields: Header) -> RequestHead:
    return RequestHead(b"GET", b"a", path, b"", list(fields))


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"
POST_HEAD = RequestHead(b"POST", b"a", b"/x", b"", [])
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
OK_HEAD = ResponseHead(200, [])


# -- requests ------------------------------------------------------------------------------------------------------


def test_a_request_without_a_body_is_a_head_and_its_end() -> None:
    assert requests(GET + b"X: 1\r\n\r\n") == [(get(b"/", (b"x", b"1")), EMPTY, True), END]


def test_a_body_of_known_length_is_read_to_its_last_byte() -> None:
    assert requests(POST + b"Content-Length: 3\r\n\r\nabc") == [(POST_HEAD, Body(3), True), b"abc", END]


def test_a_length_with_leading_zeros_means_its_number() -> None:
    assert requests(POST + b"Content-Length: 003\r\n\r\nabc") == [(POST_HEAD, Body(3), True), b"abc", END]


@pytest.mark.parametrize("size", [b"3", b"03", b"3;name=value", b'3;a="b c"'])
def test_a_chunk_is_its_data_without_its_extension(size: bytes) -> None:
    message = CHUNKED + size + b"\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"

    assert requests(message) == [(POST_HEAD, STREAMED, True), b"abcde", END]


def test_trailers_come_with_the_end_but_for_those_that_are_no_trailers() -> None:
    message = CHUNKED + b"0\r\nX-Sum: 1 \r\nHost: b\r\nAuthorization: c\r\nContent-Type: d\r\n\r\n"

    assert requests(message) == [(POST_HEAD, STREAMED, True), ("end", [(b"x-sum", b"1")])]


def test_requests_may_follow_each_other_at_once() -> None:
    message = GET + b"\r\n" + POST + b"Content-Length: 2\r\n\r\nab\r\n" + GET + b"\r\n"

    first = last = [(get(), EMPTY, True), END]
    assert requests(message) == [*first, (POST_HEAD, Body(2), True), b"ab", END, *last]


REPEATED = POST + b"X: 1\r\nContent-Length: 3\r\n\r\nabc"
REPEATED_HEAD = RequestHead(b"POST", b"a", b"/x", b"", [(b"x", b"1")])


@pytest.mark.parametrize("pieces", [*cuts(REPEATED), [REPEATED[:-3], b"abc"], [REPEATED[:-3], b"ab", b"c"]])
def test_a_head_that_comes_again_means_the_same_however_it_comes(pieces: list[bytes]) -> None:
    events, error = read_requests_after(REPEATED, [*pieces, GET + b"\r\n", REPEATED])

    one = [(REPEATED_HEAD, Body(3), True), b"abc", END]
    assert (events, error) == ([*one, (get(), EMPTY, True), END, *one], None)


@pytest.mark.parametrize("rest", [b"\r\n", b"\n", b" \r\n\r\n", b"x"])
def test_what_follows_a_head_that_comes_again_is_read_with_the_same_care(rest: bytes) -> None:
    first = read_requests_after(POST + b"\r\n", [GET + b"\r\n" + rest + GET + b"\r\n"])
    again = read_requests_after(GET + b"\r\n", [GET + b"\r\n" + rest + GET + b"\r\n"])

    assert (again[0], str(again[1])) == (first[0], str(first[1]))


def test_a_head_with_one_more_field_than_a_known_one_is_another_head() -> None:
    events, error = read_requests_after(GET + b"\r\n", [GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])

    assert (events, error) == ([(get(), STREAMED, True), END], None)


def test_empty_lines_before_heads_that_come_again_do_not_add_up() -> None:
    events, error = read_requests_after(GET + b"\r\n", [b"\r\n", GET + b"\r\n"] * 20)

    assert (events, error) == ([(get(), EMPTY, True), END] * 20, None)


def test_a_get_may_have_a_body() -> None:
    assert requests(GET + b"Content-Length: 2\r\n\r\nab") == [(get(), Body(2), True), b"ab", END]


def test_the_last_request_of_a_connection_says_so_and_nothing_is_read_after_it() -> None:
    last = GET + b"Connection: close\r\n\r\n"
    events = [(get(), EMPTY, False), END]

    assert requests(last) == events
    assert requests(last + GET + b"\r\n") == events
    assert requests(last + b"\0nonsense") == events


def test_a_value_keeps_its_bytes() -> None:
    assert requests(GET + b"X: \xa0caf\xe9\x85\r\n\r\n") == [(get(b"/", (b"x", b"\xa0caf\xe9\x85")), EMPTY, True), END]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 3\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3", 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked, identity", 400),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
        (b"Transfer-Encoding: gzip, chunked", 501),
        (b"Transfer-Encoding: xchunked", 501),
        (b"Transfer-Encoding: ,chunked", 501),
        (b"Transfer-Encoding: identity", 501),
        (b"Transfer-Encoding: \x0bchunked", 400),
        (b"Transfer-Encoding:", 400),
        (b"Transfer-Encoding : chunked", 400),
        (b"Transfer-Encoding:\r\n chunked", 400),
        (b"Content-Length: 1\r\nContent-Length: 1", 400),
        (b"Content-Length: 1\r\nContent-Length: 2", 400),
        (b"Content-Length: 1, 1", 400),
        (b"Content-Length: +1", 400),
        (b"Content-Length: -1", 400),
        (b"Content-Length: 1_0", 400),
        (b"Content-Length: 0x10", 400),
        (b"Content-Length:", 400),
        (b"Content-Length: 18446744073709551616", 400),
        (b"Content-Length: 1000000000000000000", 400),
    ],
)
def test_a_request_whose_end_is_in_doubt_is_refused_before_anybody_hears_of_it(head: bytes, status: int) -> None:
    assert refused_request(POST + head + b"\r\n\r\n0\r\n\r\n") == ([], status)


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        GET + b"X: a\r\n b\r\n\r\n",
        GET + b"X: a\rSmuggled: b\r\n\r\n",
        GET + b"X: a\0b\r\n\r\n",
        GET + b"X: a\x01b\r\n\r\n",
        GET + b"X\0: a\r\n\r\n",
        GET + b"X\x85: a\r\n\r\n",
        GET + b"X(: a\r\n\r\n",
        GET + b": a\r\n\r\n",
        GET + b"no colon\r\n\r\n",
        GET + b"Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET / RTSP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_a_malformed_head_is_refused_before_anybody_hears_of_it(message: bytes) -> None:
    assert refused_request(message) == ([], 400)


@pytest.mark.parametrize(
    "rest",
    [
        b"0x1\r\na\r\n0\r\n\r\n",
        b"0_1\r\na\r\n0\r\n\r\n",
        b"+1\r\na\r\n0\r\n\r\n",
        b"-1\r\na\r\n0\r\n\r\n",
        b" 1\r\na\r\n0\r\n\r\n",
        b"1 \r\na\r\n0\r\n\r\n",
        b"10000000000000001\r\na\r\n0\r\n\r\n",
        b"\r\na\r\n0\r\n\r\n",
        b"1\na\r\n0\r\n\r\n",
        b"1;a\nb\r\na\r\n0\r\n\r\n",
        b"1;a\rb\r\na\r\n0\r\n\r\n",
        b"0\n\n",
        b"0\r\n\n",
        b"0\r\nContent-Length: 1\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n" + b"X: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    ],
)
def test_malformed_chunks_never_end_a_body(rest: bytes) -> None:
    events, status = refused_request(CHUNKED + rest)

    assert events == [(POST_HEAD, STREAMED, True)]
    assert status in {400, 431}


@pytest.mark.parametrize("rest", [b"1\r\na\n0\r\n\r\n", b"1\r\naXX0\r\n\r\n", b"1\r\nab\r\n0\r\n\r\n"])
def test_a_chunk_that_is_longer_than_it_says_never_ends_a_body(rest: bytes) -> None:
    assert refused_request(CHUNKED + rest) == ([(POST_HEAD, STREAMED, True), b"a"], 400)


@pytest.mark.parametrize(("version", "status"), [(b"HTTP/1.0", 426), (b"HTTP/0.9", 426), (b"HTTP/2.0", 505)])
def test_other_versions_are_refused(version: bytes, status: int) -> None:
    assert refused_request(b"GET / " + version + b"\r\nHost: a\r\n\r\n") == ([], status)


def test_a_request_without_a_version_is_refused_too() -> None:
    assert refused_request(b"GET /\r\n\r\n") == ([], 426)


def test_trace_is_not_allowed() -> None:
    assert refused_request(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n") == ([], 405)


def test_connect_leads_nowhere() -> None:
    events, error = read_requests(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")

    assert events == []
    assert isinstance(error, RouteNotFound)


# -- upgrades ------------------------------------------------------------------------------------------------------

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


UPGRADE = b"Connection: upgrade\r\nUpgrade: "


def test_what_follows_an_upgrade_to_websocket_is_nobodys_business() -> None:
    key: Header = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
    message = GET + UPGRADE + b"WebSocket\r\n%b: %b\r\n\r\n" % key

    head = RequestHead(b"GET", b"a", b"/", b"", [key], upgrade=b"websocket")
    assert requests(message + b"GET / HTTP/1.1\r\n\0") == [(head, OPAQUE, True), b"GET / HTTP/1.1\r\n\0"]


@pytest.mark.parametrize(
    "message",
    [
        GET + UPGRADE + b"websocket, h2c\r\n\r\n",
        GET + UPGRADE + b"websocket\r\nUpgrade: h2c\r\n\r\n",
        GET + UPGRADE + b"websocket\r\nContent-Length: 1\r\n\r\na",
        GET + UPGRADE + b"websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + UPGRADE + b"websocket\r\n\r\n",
    ],
)
def test_half_a_handshake_of_websocket_is_refused(message: bytes) -> None:
    events, error = read_requests(message)

    assert events == []
    assert isinstance(error, UpgradeRefused)


def test_an_upgrade_that_nobody_knows_is_ignored() -> None:
    assert requests(GET + UPGRADE + b"tls/1.0\r\n\r\n") == [(get(), EMPTY, True), END]


@pytest.mark.parametrize("fields", [b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n"])
def test_half_an_upgrade_is_none(fields: bytes) -> None:
    assert requests(GET + fields + b"\r\n" + GET + b"\r\n") == [(get(), EMPTY, True), END] * 2


def test_the_offer_of_h2c_is_ignored_and_the_connection_goes_on() -> None:
    message = GET + H2C + b"\r\n" + b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"

    assert requests(message) == [(get(), EMPTY, True), END, (get(b"/2"), EMPTY, True), END]


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 34\r\n\r\n%b", Body(34)),
        (b"Transfer-Encoding: chunked\r\n\r\n22\r\n%b\r\n0\r\n\r\n", STREAMED),
    ],
)
def test_the_body_of_an_offer_of_h2c_is_a_body_and_no_request(framing: bytes, body: Body) -> None:
    inner = b"GET /admin HTTP/1.1\r\nHost: evil\r\n\r\n"
    message = POST + H2C + framing % inner[:34] + GET + b"\r\n"

    assert requests(message) == [(POST_HEAD, body, True), inner[:34], END, (get(), EMPTY, True), END]


# -- bounds --------------------------------------------------------------------------------------------------------


def test_a_head_may_have_so_many_fields_and_not_one_more() -> None:
    fields = [b"X: 1\r\n"] * MAX_FIELDS  # with Host, one too many

    assert len(requests(GET + b"".join(fields[1:]) + b"\r\n")) == 2
    assert refused_request(GET + b"".join(fields) + b"\r\n") == ([], 431)


def test_a_head_that_never_ends_is_refused_however_it_comes() -> None:
    assert refused_request(GET + b"X: " + b"a" * MAX_BYTES) == ([], 431)
    assert refused_request(b"GET /" + b"a" * MAX_BYTES) == ([], 431)


def test_a_head_that_is_whole_and_too_large_is_refused_however_it_comes() -> None:
    assert refused_request(GET + b"X: " + b"a" * MAX_BYTES + b"\r\n\r\n") == ([], 431)


def test_a_long_body_does_not_count_as_head() -> None:
    body = b"a" * 3 * MAX_BYTES
    plain = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    in_chunks = CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\nX: 1\r\nY: 2\r\n\r\n"

    assert requests(plain + GET + b"\r\n")[1:] == [body, END, (get(), EMPTY, True), END]
    assert requests(in_chunks)[1:] == [body, ("end", [(b"x", b"1"), (b"y", b"2")])]


def limit(message: bytes) -> str:
    """What the refusal of a message is counted under."""
    _, error = read_requests(message)
    assert isinstance(error, BadRequest)
    return error.limit


@pytest.mark.parametrize(
    ("reason", "within", "beyond"),
    [
        ("head_bytes", GET + b"X: " + b"a" * (MAX_BYTES - len(GET) - 7) + b"\r\n\r\n", None),
        ("head_bytes", CHUNKED + b"0\r\nX: " + b"a" * (MAX_BYTES - len(CHUNKED) - 7) + b"\r\n\r\n", None),
        ("head_fields", GET + b"X: 1\r\n" * 9 + b"\r\n", GET + b"X: 1\r\n" * 10 + b"\r\n"),
        ("head_fields", CHUNKED + b"0\r\n" + b"X: 1\r\n" * 8 + b"\r\n", CHUNKED + b"0\r\n" + b"X: 1\r\n" * 9 + b"\r\n"),
        ("empty_lines", b"\r\n" * 2 + GET + b"\r\n", b"\r\n" * 3 + GET + b"\r\n"),
        ("chunk_extension_bytes", CHUNKED + b"1;" + b"a" * 19 + b"\r\nx\r\n0\r\n\r\n", None),
        ("chunk_extension_bytes", CHUNKED + b"1;a\r\nx\r\n" * 10 + b"0\r\n\r\n", CHUNKED + b"1;a\r\nx\r\n" * 11),
        ("nominated_headers", GET + b"Connection: a,b,c,d,e,f,g\r\nConnection: h,i\r\n\r\n", None),
    ],
)
def test_a_limit_is_met_exactly_and_named_when_it_is_exceeded(reason: str, within: bytes, beyond: bytes | None) -> None:
    if beyond is None:
        last = within.rindex(b"a") if reason != "nominated_headers" else within.rindex(b"i")
        beyond = within[:last] + (b"a" if reason != "nominated_headers" else b"j,") + within[last:]

    assert requests(within)[-1][0] == "end"  # type: ignore[index]
    assert limit(beyond) == reason


@pytest.mark.parametrize("rest", [b"0\r\nX: " + b"a" * MAX_BYTES * 2, b"1;" + b"a" * MAX_BYTES * 2, b"0" * 17])
def test_trailers_extensions_and_sizes_that_never_end_are_refused(rest: bytes) -> None:
    events, status = refused_request(CHUNKED + rest)

    assert events == [(POST_HEAD, STREAMED, True)]
    assert status in {400, 431}


# -- responses -----------------------------------------------------------------------------------------------------


def test_a_response_of_known_length_leaves_the_connection_usable() -> None:
    assert response(OK + b"Content-Length: 2\r\n\r\nab") == [(OK_HEAD, Body(2), True), b"ab", END]


def test_a_chunked_response_may_have_trailers() -> None:
    message = OK + b"Transfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\nX: 1\r\nSet-Cookie: a\r\n\r\n"

    assert response(message) == [(OK_HEAD, STREAMED, True), b"ab", ("end", [(b"x", b"1")])]


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_a_response_without_length_ends_with_the_connection(version: bytes) -> None:
    assert response(version + b" 200 OK\r\n\r\nabc", ends=True) == [(OK_HEAD, STREAMED, False), b"abc", END]


KNOWN = OK + b"Content-Length: 3\r\n\r\n"


@pytest.mark.parametrize("pieces", [*cuts(KNOWN + b"abc"), [KNOWN, b"abc"], [KNOWN, b"ab", b"c"]])
def test_a_response_whose_head_comes_again_means_the_same_however_it_comes(pieces: list[bytes]) -> None:
    assert read_response_after(KNOWN + b"123", pieces) == ([(OK_HEAD, Body(3), True), b"abc", END], None)


def test_the_known_head_of_a_response_says_nothing_of_a_body_after_head() -> None:
    events, error = read_response_after(KNOWN + b"123", [KNOWN], b"HEAD")

    assert (events, error) == ([(ResponseHead(200, [(b"content-length", b"3")]), EMPTY, True), END], None)


@pytest.mark.parametrize("pieces", [[KNOWN + b"abcd"], [KNOWN, b"abcd"], [KNOWN + b"abc", b"d"]])
def test_bytes_beyond_a_response_whose_head_is_known_are_an_error(pieces: list[bytes]) -> None:
    _, error = read_response_after(KNOWN + b"123", pieces)

    assert isinstance(error, UpstreamProtocolError)


def test_a_known_head_after_an_informational_one_is_read_as_usual() -> None:
    events, error = read_response_after(KNOWN + b"123", [b"HTTP/1.1 103 Early Hints\r\n\r\n" + KNOWN, b"abc"])

    assert (events, error) == ([ResponseHead(103, []), (OK_HEAD, Body(3), True), b"abc", END], None)


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 3\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"X:"]
)
def test_a_response_that_is_cut_short_has_no_proper_end(rest: bytes) -> None:
    reader = h1_response.ResponseReader(Recorder(), SETTINGS)
    reader.expect(b"GET")
    reader.feed(OK + rest)

    assert not reader.feed_eof()


def test_an_endpoint_that_wants_to_close_is_not_used_again() -> None:
    message = OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n"

    assert response(message) == [(OK_HEAD, Body(0), False), END]


@pytest.mark.parametrize(
    ("method", "message", "head"),
    [
        (b"HEAD", OK + b"Content-Length: 7\r\n\r\n", ResponseHead(200, [(b"content-length", b"7")])),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", OK_HEAD),
        (b"GET", b"HTTP/1.1 304 \r\nContent-Length: 7\r\n\r\n", ResponseHead(304, [(b"content-length", b"7")])),
        (b"GET", b"HTTP/1.1 204 \r\n\r\n", ResponseHead(204, [])),
    ],
)
def test_a_response_that_has_no_body_ends_with_its_head(method: bytes, message: bytes, head: ResponseHead) -> None:
    assert response(message, method) == [(head, EMPTY, True), END]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_connection_serves_one_response_after_the_other(method: bytes) -> None:
    recorder = Recorder()
    reader = h1_response.ResponseReader(recorder, SETTINGS)
    length = b"Content-Length: 2\r\n\r\n"

    for _ in range(3):
        reader.expect(method)
        reader.feed(OK + length + (b"ab" if method == b"GET" else b""))
        assert reader.is_complete

    assert recorder.events.count(END) == 3


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (b"GET", OK + b"Content-Length: 1\r\n\r\nab"),
        (b"GET", (OK + b"Content-Length: 0\r\n\r\n") * 2),
        (b"GET", b"HTTP/1.1 204 \r\nContent-Length: 2\r\n\r\nab"),
        (b"GET", b"HTTP/1.1 304 \r\nContent-Length: 2\r\n\r\nab"),
        (b"HEAD", OK + b"Content-Length: 2\r\n\r\nab"),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n<html>"),
        (b"HEAD", b"HTTP/1.1 204 \r\n\r\nab"),
    ],
)
def test_bytes_after_a_response_are_an_error_so_that_nobody_takes_them_for_the_next(
    method: bytes, message: bytes
) -> None:
    for pieces in cuts(message):
        recorder = Recorder()
        reader = h1_response.ResponseReader(recorder, SETTINGS)
        reader.expect(method)
        _, error = feed(reader.feed, recorder.events, pieces)

        assert isinstance(error, UpstreamProtocolError)
        assert recorder.events.count(END) <= 1


@pytest.mark.parametrize("rest", [b"Content-Length: 1\r\n\r\nab", b"Content-Length: 0\r\n\r\n\r\n"])
def test_a_response_with_bytes_beyond_it_is_not_passed_on_when_they_come_together(rest: bytes) -> None:
    recorder = Recorder()
    reader = h1_response.ResponseReader(recorder, SETTINGS)
    reader.expect(b"GET")

    _, error = feed(reader.feed, recorder.events, [OK + rest])

    assert isinstance(error, UpstreamProtocolError)
    assert recorder.events == []


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nX: 1\r\n\r\n"


def upgraded(message: bytes, *, ends: bool = False) -> Outcome:
    outcomes: list[Outcome] = []
    for pieces in cuts(message):
        recorder = Recorder()
        reader = h1_response.ResponseReader(recorder, SETTINGS)
        reader.expect(b"GET", b"websocket")
        outcomes.append(feed(reader.feed, recorder.events, pieces))
        if ends:
            assert reader.feed_eof()
    assert [events for events, _ in outcomes] == [outcomes[0][0]] * 12
    return outcomes[0]


def test_after_an_upgrade_that_was_asked_for_everything_is_opaque_to_the_end() -> None:
    events, error = upgraded(SWITCHED + b"HTTP/1.1 \0\r\n\r\n", ends=True)

    assert error is None
    assert events == [(ResponseHead(101, [(b"x", b"1")]), OPAQUE, False), b"HTTP/1.1 \0\r\n\r\n", END]


def test_an_endpoint_may_decline_to_upgrade() -> None:
    assert upgraded(OK + b"Content-Length: 2\r\n\r\nab") == ([(OK_HEAD, Body(2), True), b"ab", END], None)


@pytest.mark.parametrize(
    "message",
    [
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_an_endpoint_switches_to_what_it_was_asked_for_or_not_at_all(message: bytes) -> None:
    _, error = upgraded(message)

    assert isinstance(error, UpstreamProtocolError)


def test_what_a_consumer_refuses_is_raised_as_it_is() -> None:
    class Full(Recorder):
        def request_body(self, data: bytes) -> None:
            raise BadRequest("full")

    reader = h1_request.RequestReader(Full(), SETTINGS)

    with pytest.raises(BadRequest, match="full"):
        reader.feed(CHUNKED + b"1\r\na\r\n0\r\n\r\n")


def test_informational_heads_come_first() -> None:
    message = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"

    informational = [ResponseHead(100, []), ResponseHead(103, [(b"link", b"x")])]
    assert response(message) == [*informational, (OK_HEAD, Body(0), True), END]


def test_only_so_many_informational_heads_are_borne() -> None:
    assert refused_response(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9) == [ResponseHead(103, [])] * 8


@pytest.mark.parametrize(
    "message",
    [
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        OK + b"Content-Length: +1\r\n\r\n",
        OK + b"X: a\r\n b\r\n\r\n",
        OK + b"X: a\0\r\n\r\n",
        OK + b"X: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n",
        OK + b"X: " + b"a" * MAX_BYTES,
        OK + b"X: " + b"a" * MAX_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 600 \r\n\r\n",
        b"HTTP/1.1 099 \r\n\r\n",
        b"HTTP/1.1 2000 \r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\r\n" + OK + b"\r\n",
        b"<html>",
        b"\x15\x03\x01",
    ],
)
def test_a_response_that_breaks_the_rules_is_not_passed_on(message: bytes) -> None:
    assert refused_response(message) == []


@pytest.mark.parametrize(
    "rest",
    [
        b"1x\r\na\r\n0\r\n\r\n",
        b"0\r\n" + b"X: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    ],
)
def test_malformed_chunks_never_end_a_response(rest: bytes) -> None:
    assert refused_response(OK + b"Transfer-Encoding: chunked\r\n\r\n" + rest) == [(OK_HEAD, STREAMED, True)]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("head_bytes", OK + b"X: " + b"a" * MAX_BYTES + b"\r\n\r\n"),
        ("head_bytes", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * MAX_BYTES + b"\r\n\r\n"),
        ("head_fields", OK + b"X: 1\r\n" * (MAX_FIELDS + 1) + b"\r\n"),
        ("chunk_extension_bytes", OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 20 + b"\r\nx\r\n0\r\n\r\n"),
        ("informational_responses", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9),
        ("malformed_response", b"<html>"),
    ],
)
def test_a_limit_that_a_response_exceeds_is_named(reason: str, message: bytes) -> None:
    for pieces in cuts(message):
        reader = h1_response.ResponseReader(Recorder(), SETTINGS)
        reader.expect(b"GET")
        _, error = feed(reader.feed, [], pieces)

        assert isinstance(error, UpstreamProtocolError)
        assert error.limit == reason


@pytest.mark.parametrize("start", [b"0\r\nX: ", b"1;"])
def test_trailers_and_extensions_of_a_response_that_never_end_are_refused(start: bytes) -> None:
    reader = h1_response.ResponseReader(Recorder(), SETTINGS)
    reader.expect(b"GET")
    reader.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n" + start)

    with pytest.raises(UpstreamProtocolError):
        reader.feed(b"a" * 2 * MAX_BYTES)


def test_a_long_response_may_still_have_trailers() -> None:
    body = b"a" * 3 * MAX_BYTES
    message = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX: 1\r\nY: 2\r\n\r\n" % (len(body), body)

    assert response(message)[1:] == [body, ("end", [(b"x", b"1"), (b"y", b"2")])]


def test_bytes_that_nobody_asked_for_are_an_error() -> None:
    reader = h1_response.ResponseReader(Recorder(), SETTINGS)

    with pytest.raises(UpstreamProtocolError):
        reader.feed(OK)


# -- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [EMPTY, Body(0), Body(3), STREAMED])
def test_what_is_written_is_read_as_the_same_request(body: Body) -> None:
    head = RequestHead(b"POST", b"a:80", b"/x", b"q=1", [(b"x", b"1"), (b"x", b"2")], True)
    content = {None: b"3\r\nabc\r\n" + h1_format.format_last_chunk([(b"t", b"1")]), 0: b"", 3: b"abc"}[body.length]

    events = requests(h1_format.format_request(head, body) + content)

    assert events[0] == (head, body, True)
    assert events[-1] == ("end", [(b"t", b"1")] if body.length is None else [])


@pytest.mark.parametrize("closes", [False, True])
def test_what_is_written_is_read_as_the_same_response(closes: bool) -> None:
    head = ResponseHead(418, [(b"x", b"1")])

    events = response(
        h1_format.format_response(head, STREAMED, closes=closes) + h1_format.format_chunk(b"abc" * 9) + b"0\r\n\r\n"
    )

    assert events == [(head, STREAMED, not closes), b"abc" * 9, END]


def test_a_response_without_body_says_nothing_of_length() -> None:
    assert h1_format.format_response(ResponseHead(304, []), EMPTY, closes=False) == b"HTTP/1.1 304 Not Modified\r\n\r\n"
