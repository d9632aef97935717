"""The page `/explain` of the administration port: the running waypoint answers with the same code as for files."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from l4.admin import Page
from l4.aiohttp import web
from waypoint.ask.explanation import Explanation
from waypoint.ask.question import InvalidQuestion, Question

EXPLAIN_PATH = "/explain"
EXPLAIN_SHOWS = "explain how a request is routed: ?from=NAMESPACE/ACCOUNT&to=HOST:PORT&method=&path=&header=NAME:VALUE"


def explain_page(explain: Callable[[Question], Awaitable[Explanation]]) -> Page:
    """Answer one question at a time, because a table may have thousands of routes."""
    asking = asyncio.Lock()

    async def page(request: web.Request) -> web.Response:
        query = request.query
        try:
            question = Question.parse(
                query.get("from", "default/default"),
                query.get("to", ""),
                query.get("method", "GET"),
                query.get("path", "/"),
                tuple(query.getall("header", [])),
            )
            async with asking:
                explanation = await explain(question)
        except InvalidQuestion as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        return web.Response(body=as_json(explanation), content_type="application/json")

    return page


def as_json(explanation: Explanation) -> bytes:
    return msgspec.json.format(msgspec.json.encode(explanation), indent=2) + b"\n"
