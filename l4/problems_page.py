"""The page `/problems` of the administration port: what is wrong with the live configuration, and where.

It has a row per problem, errors first: its code and level, its place (file and line, or an object of an API server),
the object, the field, and a sentence that says what to do.
"""

from collections.abc import Awaitable, Callable, Iterable

import msgspec

from l4.aiohttp import web
from l4.config.codes import Level
from l4.config.documents import Problem

PROBLEMS_PATH = "/problems"
PROBLEMS_SHOWS = "problems of the configuration, with file and line"
_ORDER = list(Level)


def rows(problems: Iterable[Problem]) -> list[dict[str, str]]:
    """Return a row per problem. The same problem found twice is one row."""
    ordered = sorted(set(problems), key=lambda it: (_ORDER.index(it.code.level), it))
    return [
        {
            "level": it.code.level.value,
            "code": str(it.code),
            "name": it.code.label,
            "place": str(it.origin),
            "object": it.subject,
            "field": it.field,
            "sentence": it.sentence,
        }
        for it in ordered
    ]


def problems_page(
    problems: Callable[[], Awaitable[Iterable[Problem]]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """`problems` returns those of the moment."""

    async def page(_: web.Request) -> web.StreamResponse:
        body = msgspec.json.format(msgspec.json.encode(rows(await problems())), indent=2)
        return web.Response(body=body + b"\n", content_type="application/json")

    return page
