"""Templates take what they show, segment by segment."""

import pytest

from policies.path_template import PathTemplate


@pytest.mark.parametrize(
    ("template", "path", "is_taken"),
    [
        ("/{*}", b"/a", True),
        ("/{*}", b"/", False),
        ("/{*}", b"/a/", False),
        ("/{**}", b"/", True),
        ("/{**}", b"/a/b", True),
        ("/a/{**}", b"/a/", True),
        ("/a/{**}", b"/a//b", True),
        ("/a/{**}", b"/a", False),
        ("/a/{**}", b"/ab/c", False),
        ("/a/{*}/c/{**}", b"/a/b/c/", True),
        ("/a/{*}/c/{**}", b"/a//c/", False),
        ("/store/{**}/cart", b"/store/a/b/cart", True),
        ("/store/{**}/cart", b"/store//cart", True),
        ("/store/{**}/cart", b"/store/cart", False),
        ("/store/{**}/cart", b"/store/a/cart/", False),
        ("/store/{**}/cart", b"/store/a/b", False),
        ("/{*}/a/{**}/b/c", b"/x/a/y/b/c", True),
        ("/{*}/a/{**}/b/c", b"/x/a/y/c", False),
        ("/{**}", b"*", False),
        ("/a/{*}", b"/A/b", False),
    ],
)
def test_a_template_takes_what_it_shows(template: str, path: bytes, is_taken: bool) -> None:
    assert PathTemplate.parse(template).accepts(path) is is_taken


@pytest.mark.parametrize(
    "text", ["{*}", "a/{*}", "/{**}/{*}", "/{**}/a/{*}", "/{**}/{**}", "/a{*}", "/{*}*/{**}", "/{a}/{*}"]
)
def test_what_is_nearly_a_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a path template"):
        PathTemplate.parse(text)
