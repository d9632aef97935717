"""Paths in policies have the same normal form as those of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.path_normalization import PathNormalization
from policies.value_match import Paths

MODES = ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
PARTS = (b"/", b".", b"..", b"%2e", b"%2F", b"%2f", b"%5c", b"%61", b"%7E", b"\\", b"a", b"%", b"2")


@pytest.mark.parametrize(
    ("mode", "text", "asked"),
    [
        ("BASE", "/secret%2fx", b"/secret%2fx"),
        ("BASE", "/secret%2Fx", b"/secret%2Fx"),
        ("BASE", "/%61dmin", b"/admin"),
        ("BASE", "/%61dmin", b"/%61dmin"),
        ("BASE", "/a/../admin", b"/admin"),
        ("BASE", "/a\\b", b"/a/b"),
        ("BASE", "/%61dm*", b"/admin"),
        ("BASE", "/x/../a*", b"/abc"),
        ("BASE", "/a/.*", b"/a/.git"),
        ("BASE", "*/%61dmin", b"/x/admin"),
        ("BASE", "/%61/{*}", b"/a/x"),
        ("NONE", "/%61dmin", b"/%61dmin"),
        ("MERGE_SLASHES", "//admin", b"/admin"),
        ("MERGE_SLASHES", "//admin", b"///admin"),
        ("MERGE_SLASHES", "*//admin", b"/x/admin"),
        ("MERGE_SLASHES", "//x//a*", b"/x/ab"),
        ("DECODE_AND_MERGE_SLASHES", "/a%2Fb", b"/a%2fb"),
        ("DECODE_AND_MERGE_SLASHES", "/a%2fb*", b"/a/bc"),
    ],
)
def test_a_path_of_a_policy_is_found_in_whatever_form_it_is_written(mode: str, text: str, asked: bytes) -> None:
    normalization = PathNormalization(mode)

    assert Paths((text,), normalization).accepts(normalization.of_request(asked))


@pytest.mark.parametrize(("text", "asked"), [("/secret%2fx", b"/secret%2Fx"), ("/a", b"//a"), ("/a/*", b"/a")])
def test_what_base_keeps_apart_stays_apart(text: str, asked: bytes) -> None:
    normalization = PathNormalization("BASE")

    assert not Paths((text,), normalization).accepts(normalization.of_request(asked))


@given(st.sampled_from(MODES), st.lists(st.sampled_from(PARTS)))
def test_a_request_for_the_very_text_of_a_policy_meets_it(mode: str, parts: list[bytes]) -> None:
    normalization, path = PathNormalization(mode), b"/" + b"".join(parts)
    try:
        asked = normalization.of_request(path)
    except ValueError:
        return

    assert Paths((path.decode(),), normalization).accepts(asked)
    assert normalization.of_path(asked) == asked


@given(st.sampled_from(MODES), st.lists(st.sampled_from(PARTS)), st.sampled_from([b"x", b"/x", b"/x/y"]))
def test_a_normal_prefix_is_found_in_what_begins_with_it(mode: str, parts: list[bytes], more: bytes) -> None:
    normalization = PathNormalization(mode)
    try:
        begin = normalization.of_request(b"/a" + b"".join(parts) + b"/")
        asked = normalization.of_request(begin + more.lstrip(b"/"))
    except ValueError:
        return

    assert asked.startswith(normalization.of_prefix(begin))


@pytest.mark.parametrize("path", [b"/%00", b"/%2%45"])
def test_what_can_be_read_in_two_ways_is_no_request(path: bytes) -> None:
    with pytest.raises(ValueError, match="ambiguous escape"):
        PathNormalization().of_request(path)
