"""The invariants on generated messages: made of what is usual and what is odd, or of the corpus, and then changed."""

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.invariants import METHODS, check_frames, check_path, check_requests, check_response
from tests.wire import corpus
from tests.wire.frame_script import Writer

OFTEN = settings(max_examples=300)
SMALL = 3000

REQUESTS = [case.send for case in corpus.requests() if len(case.send) < SMALL]
RESPONSES = [(case.send, case.method) for case in corpus.responses() if len(case.send) < SMALL]


@cache
def scripts() -> list[tuple[bytes, bool]]:
    """The bytes of the small HTTP/2 scripts, and whether a client sends them. To encode all takes most of a second."""
    encoded = [(b"".join(Writer().write(case.script)), case.is_client) for case in corpus.http2()]
    return [script for script in encoded if len(script[0]) < SMALL]


ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\x00\r\n"])
blanks = st.sampled_from([b" ", b" ", b"", b"\t", b"  ", b"\x0b", b"\xa0"])
names = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"TE", b"Upgrade", b"X", b"x_y", b""]
) | st.from_regex(rb"[!-~\x80-\xff]{1,8}", fullmatch=True)
values = st.sampled_from(
    [b"app", b"5", b"+5", b"05", b"0x5", b"chunked", b"gzip, chunked", b"100-continue", b"trailers", b"close", b"X, TE"]
) | st.sampled_from([b"websocket", b"h2c", b"", b"a\xa0", b"\x85"])
values |= st.binary(max_size=12)
fields = st.tuples(names, st.sampled_from([b":", b":", b":", b" :", b""]), blanks, values, blanks, ends).map(b"".join)
segments = st.sampled_from([b"a", b"..", b".", b"%2e", b"%2F", b"\\", b"%5c", b"%00", b"%2", b"", b";x", b"\xe9"])
paths = st.lists(segments, max_size=5).map(b"/".join)
targets = st.sampled_from([b"/", b"*", b"http://app", b"http://a@b/", b"app:80", b"/?#"]) | paths.map(b"/".__add__)
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.10", b""])
methods = st.sampled_from([*METHODS, b"OPTIONS", b"CONNECT", b"get", b"PRI"])
sizes = st.sampled_from([b"5", b"05", b"+5", b"0x5", b"5;a=b", b"5 ", b"4", b"6", b"fffffffffffffffff"])
chunks = st.tuples(sizes, ends, st.just(b"hello"), ends).map(b"".join)
bodies = st.one_of(
    st.just(b""),
    st.just(b"hello"),
    st.tuples(st.lists(chunks, max_size=3).map(b"".join), st.just(b"0\r\n"), st.just(b"") | fields, ends).map(b"".join),
    st.binary(max_size=20),
)
heads = st.lists(fields, max_size=4).map(b"".join)
hosts = st.sampled_from([b"Host: app\r\n", b"Host: app\r\n", b""])
framings = st.sampled_from([b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
requests = st.tuples(
    methods, blanks, targets, blanks, versions, ends, hosts, framings, heads, st.just(b"\r\n"), bodies
).map(b"".join)
statuses = st.sampled_from(
    [b"200 OK", b"200", b"204 No", b"304 Not", b"101 Up", b"103 Hints", b"099 x", b"600 x", b"2 x"]
)
responses = st.tuples(versions, blanks, statuses, ends, framings, heads, st.just(b"\r\n"), bodies).map(b"".join)
places = st.lists(st.integers(0, SMALL), max_size=5)
changes = st.lists(st.tuples(st.integers(0, SMALL), st.integers(0, 255), st.integers(0, 2)), max_size=3)


def mutated(message: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    """With bytes replaced, added or removed."""
    for place, byte, removed in edits:
        place %= len(message) + 1
        message = message[:place] + bytes([byte] if removed < 2 else []) + message[place + min(removed, 1) :]
    return message


@OFTEN
@given(st.lists(requests, min_size=1, max_size=3).map(b"".join), places)
def test_requests_are_read_in_one_way_only(message: bytes, cuts: list[int]) -> None:
    check_requests(message, cuts)


@OFTEN
@given(st.sampled_from(REQUESTS), changes, places)
def test_requests_of_the_corpus_are_read_in_one_way_only_when_they_are_changed(
    message: bytes, edits: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    check_requests(mutated(message, edits), cuts)


@OFTEN
@given(st.lists(responses, min_size=1, max_size=2).map(b"".join), places, st.sampled_from(METHODS))
def test_responses_are_read_in_one_way_only(message: bytes, cuts: list[int], method: bytes) -> None:
    check_response(message, cuts, method)


@OFTEN
@given(st.sampled_from(RESPONSES), changes, places)
def test_responses_of_the_corpus_are_read_in_one_way_only_when_they_are_changed(
    case: tuple[bytes, bytes], edits: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    message, method = case
    check_response(mutated(message, edits), cuts, method)


@OFTEN
@given(paths | st.binary(max_size=30))
def test_a_normal_path_stays_as_it_is(path: bytes) -> None:
    check_path(path)


@settings(OFTEN, max_examples=150)
@given(st.deferred(lambda: st.sampled_from(scripts())), changes, places)
def test_frames_of_the_corpus_are_read_in_one_way_only_when_they_are_changed(
    script: tuple[bytes, bool], edits: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    message, is_client = script
    check_frames(mutated(message, edits), cuts, is_client=is_client)
