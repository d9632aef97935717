"""The JSON documents that the services exchange: the public Bookinfo's, and the version that answered."""

from msgspec import Struct, field


class Details(Struct, frozen=True):
    id: int
    author: str
    year: int
    type: str
    pages: int
    publisher: str
    language: str
    isbn_10: str = field(name="ISBN-10")
    isbn_13: str = field(name="ISBN-13")


class Ratings(Struct, frozen=True):
    id: int
    ratings: dict[str, int]


class Rating(Struct, frozen=True, omit_defaults=True):
    """Either stars and their colour, or why there are none."""

    stars: int | None = None
    color: str = ""
    error: str = ""


class Review(Struct, frozen=True, omit_defaults=True):
    """`rating` is left out by a version of reviews that doesn't know ratings."""

    reviewer: str
    text: str
    rating: Rating | None = None


class Reviews(Struct, frozen=True):
    id: str
    reviews: tuple[Review, ...]
    podname: str = ""
    version: str = ""


class Product(Struct, frozen=True, rename="camel"):
    id: int
    title: str
    description_html: str


class Health(Struct, frozen=True):
    status: str


class Failure(Struct, frozen=True):
    error: str
