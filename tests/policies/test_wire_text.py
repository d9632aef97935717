"""Each piece of a message takes what can stand in its place, and nothing else."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from policies import wire_text

TAKEN: dict[Callable[[str], object], list[str]] = {
    wire_text.path: ["/", "/a/b", "/a%20b", "/a%2fb", "/a;b=1,2", "/{id}|x", '/"'],
    wire_text.query: ["", "a=1", "a=1&b=/?c"],
    wire_text.authority: [
        "a",
        "reviews",
        "reviews:8080",
        "a.b.example.com:65535",
        "[::1]:80",
        "127.0.0.1",
        "A.example",
    ],
    wire_text.header_name: ["x-a", "X-A", "x_a", "accept", "server", "date"],
    wire_text.header_value: ["", "a", "a b", "a\tb", "größe", "%REQ(:path)%", '"q"'],
    wire_text.token: ["GET", "*", "x-a"],
}
BREAKS = ["\r", "\n", "\r\n", "\0", "\x01", "\x1f", "\x7f"]
REFUSED: dict[Callable[[str], object], list[str]] = {
    wire_text.path: ["", " ", "a", "noslash", "/a b", "/a?b", "/a#b", "/a\\b", "/é", "/%00", "/x HTTP/1.1\r\nA: 1"],
    wire_text.query: [" ", "a b", "#a", "é"],
    wire_text.authority: ["", " ", "a b", "a/b", "user@a", "a:b", "a:70000", "a,b", "é", "a..b", "[::1", "a:80:90"],
    wire_text.header_name: [
        "",
        " ",
        "a b",
        "a:",
        ":path",
        ":authority",
        "é",
        *(it.decode() for it in wire_text.OF_A_HOP),
    ],
    wire_text.header_value: [" ", " a", "a ", "\ta", "a\t"],
    wire_text.token: ["", "a b", "a,b", "é", "a\r\nb"],
}


@pytest.mark.parametrize(("piece", "text"), [(piece, text) for piece, texts in TAKEN.items() for text in texts])
def test_what_can_stand_there_is_taken(piece: Callable[[str], bytes], text: str) -> None:
    assert piece(text).lower() == text.encode().lower()


@pytest.mark.parametrize(
    ("piece", "text"),
    [
        (piece, text)
        for piece, texts in REFUSED.items()
        for text in (*sorted(texts), *BREAKS, *(f"/a{it}b" for it in BREAKS))
    ],
)
def test_what_would_break_a_message_is_refused_with_the_text(piece: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        piece(text)


@pytest.mark.parametrize("text", [" ", "a b", "?", "#", "\\", "\\a", "\\\\", "\r\n", "é", "%00", r"\2"])
def test_a_substitution_is_made_of_characters_of_a_path_and_groups_that_there_are(text: str) -> None:
    assert wire_text.substitution(r"/a/\1\0", 1) == rb"/a/\1\0"
    with pytest.raises(ValueError, match=r"."):
        wire_text.substitution(text, 1)


def test_a_query_is_told_apart_from_its_path() -> None:
    assert wire_text.path_and_query("/a?b=/?c") == (b"/a", b"b=/?c")
    assert wire_text.path_and_query("/a?") == (b"/a", b"")
    assert wire_text.path_and_query("/a") == (b"/a", None)


def test_pieces_are_made_in_one_place_so_that_no_reader_can_forget_to_check() -> None:
    root = Path(__file__).parents[2]
    sources = (path for part in ("policies", "l4", "waypoint") for path in (root / part).rglob("*.py"))
    made = re.compile(
        r"(?<!class )(?<![\w.])(?:wire_text\.)?(?:Path|Query|Authority|HeaderName|HeaderValue|Substitution)\("
    )

    makers = [
        path
        for path in sources
        if "wire_text" in (text := path.read_text()) and path.name != "wire_text.py" and made.search(text)
    ]

    assert makers == []
