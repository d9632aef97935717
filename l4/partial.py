"""Answers of operator pages that are not whole, because a part of the program does not answer.

Such an answer has the header LACKS: what is missing, in sentences, separated by semicolons. Whoever
notices it while the page is made calls `lacks`.
"""

from contextvars import ContextVar

LACKS = "Pywaypoint-Lacks"
_lacking: ContextVar[list[str]] = ContextVar("lacking")


def begin_page() -> list[str]:
    """Return a list to which `lacks` will add, in this task and in those that it starts."""
    lacking: list[str] = []
    _lacking.set(lacking)
    return lacking


def lacks(sentence: str) -> None:
    """Let the answer of the page that is being made say that it lacks something. Outside of a page, this does
    nothing."""
    _lacking.get([]).append(sentence)
