from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct

from l4.config.shape import meaning, shape_of, unknown_fields

Word = Annotated[str, Meta(pattern="^[a-z]+$", description="a word")]


class Leaf(Struct, rename="camel"):
    two_words: Word | None = None
    color: Literal["red", "blue"] | None = None
    labels: dict[str, str] | None = None


class Tree(Struct):
    leaf: Leaf
    maybe: Leaf | None = None
    leaves: Annotated[tuple[Leaf, ...], Meta(max_length=4)] = ()
    words: tuple[Word, ...] = ()
    count: int | str = 0


def test_fields_have_the_names_that_people_write() -> None:
    leaf = {"twoWords": None, "color": None, "labels": None}

    assert shape_of(Tree) == {"leaf": leaf, "maybe": leaf, "leaves": leaf, "words": None, "count": None}


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        ({}, []),
        ({"leaf": {"twoWords": "a"}, "count": 3}, []),
        ({"leav": 1, "count": 1}, ["leav"]),
        ({"leaf": {"two_words": "a"}}, ["leaf.two_words"]),
        ({"maybe": {"x": {"y": 1}}}, ["maybe.x"]),
        ({"leaves": [{}, {"x": 1}, {"color": "red", "y": 1}]}, ["leaves[1].x", "leaves[2].y"]),
        ({"leaf": {"labels": {"any": "thing"}}}, []),
        ({"leaf": 7, "leaves": {"color": 1}}, []),
    ],
)
def test_fields_that_a_kind_does_not_have_are_found_at_any_depth(content: object, paths: list[str]) -> None:
    assert list(unknown_fields(content, shape_of(Tree))) == paths


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (("leaf", "twoWords"), "a word"),
        (("maybe", "twoWords"), "a word"),
        (("leaves", 3, "twoWords"), "a word"),
        (("words", 0), "a word"),
        (("leaf", "color"), "one of blue, red"),
        (("count",), None),
        (("leaf", "labels", "any"), None),
        (("leaf", "none"), None),
        (("leaf", 0), None),
        ((), None),
    ],
)
def test_what_a_value_must_be_is_said_in_words_where_its_type_has_some(
    steps: tuple[str | int, ...], text: str | None
) -> None:
    assert meaning(Tree, steps) == text
