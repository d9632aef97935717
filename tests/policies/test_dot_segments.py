"""The examples of RFC 3986 section 5.2.4 and 5.4, and dot segments at the ends of paths."""

import pytest

from policies.dot_segments import without_dots


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/a/b/c/./../../g", b"/a/g"),
        (b"/mid/content=5/../6", b"/mid/6"),
        (b"/..", b"/"),
        (b"/../../a", b"/a"),
        (b"/a/..", b"/"),
        (b"/a/.", b"/a/"),
        (b"/a//..", b"/a/"),
        (b"/.a/..b", b"/.a/..b"),
        (b"/", b"/"),
    ],
)
def test_dot_segments_are_removed_and_never_lead_above_the_root(path: bytes, normal: bytes) -> None:
    assert without_dots(path.split(b"/")[1:]) == normal
