"""Heads that must not be written, and proof that no other head is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Header
from policies.last_look import IN_BODILESS_RESPONSES, IN_RESPONSES, KNOWN_NAMES, Unwritable, check_fields, check_target

CONTROLS = [bytes([byte]) for byte in [*range(9), *range(10, 32), 127]]


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("form", [b"%b", b"a%bb", b"%bb", b"a%b"])
def test_no_control_character_is_written(control: bytes, form: bytes) -> None:
    text = form % control
    for header in ((b"x-a", text), (text, b"1")):
        with pytest.raises(Unwritable):
            check_fields([(b"x-b", b"1"), header, (b"x-c", b"2")])
    for line in ((text, b"/", b"app"), (b"GET", b"/" + text, b"app"), (b"GET", b"/", text)):
        with pytest.raises(Unwritable):
            check_target(*line)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b":path", b"X-A", b"a\xe9", b"a\t", b"a(", b'"a"'])
def test_a_name_is_a_token_in_lower_case(name: bytes) -> None:
    with pytest.raises(Unwritable, match="is not a lower-case field name"):
        check_fields([(name, b"1")])


@pytest.mark.parametrize(
    "name", [b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"keep-alive"]
)
def test_what_frames_a_message_is_not_said_twice(name: bytes) -> None:
    for _ in range(2):  # it isn't taken for known, either
        with pytest.raises(Unwritable, match="is reserved for the framing"):
            check_fields([(b"x-a", b"1"), (name, b"1")])


def test_a_length_stands_where_there_is_no_body_and_nothing_else_of_the_framing() -> None:
    check_fields([(b"content-length", b"5")], IN_BODILESS_RESPONSES)

    with pytest.raises(Unwritable):
        check_fields([(b"transfer-encoding", b"chunked")], IN_BODILESS_RESPONSES)


def test_a_host_that_a_response_repeats_makes_no_second_one_of_a_request() -> None:
    check_fields([(b"host", b"app")], IN_RESPONSES)

    with pytest.raises(Unwritable):
        check_fields([(b"host", b"app")])


@pytest.mark.parametrize(
    ("method", "target", "authority"),
    [
        (b"GET", b"", b"app"),
        (b"GET", b"noslash", b"app"),
        (b"GET", b"http://app/", b"app"),
        (b"GET", b"/a b", b"app"),
        (b"GET", b"/\xe9", b"app"),
        (b"GET", b"/", b""),
        (b"GET", b"/", b"a b"),
        (b"GET /x", b"/", b"app"),
    ],
)
def test_a_request_line_has_three_words(method: bytes, target: bytes, authority: bytes) -> None:
    with pytest.raises(Unwritable):
        check_target(method, target, authority)


def test_a_usual_line_is_written() -> None:
    check_target(b"GET", b"/a/b?c=d%20e", b"[::1]:80")
    check_target(b"OPTIONS", b"*", b"app")


@given(st.lists(st.tuples(st.from_regex(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True), st.binary(max_size=30))))
def test_what_is_written_is_read_as_the_same_fields(headers: list[Header]) -> None:
    try:
        check_fields(headers)
    except Unwritable:
        return

    written = b"".join(b"%b:%b\r\n" % header for header in headers)
    assert [tuple(line.split(b":", 1)) for line in written.split(b"\r\n")[:-1]] == headers
    assert not {b"\n", b"\r", b"\0"} & {bytes([byte]) for byte in written.replace(b"\r\n", b"")}


def test_names_that_peers_choose_are_not_kept_for_ever() -> None:
    for number in range(3000):
        check_fields([(b"x-%d" % number, b"1")])
    check_fields([(b"x" * 300, b"1")])

    assert len(KNOWN_NAMES) <= 1024
    assert max(map(len, KNOWN_NAMES)) < 300
