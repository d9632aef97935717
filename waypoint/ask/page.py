"""`/explain` on the administration port: the running waypoint is asked why, by the same code as files are."""

import asyncio
import time
from collections.abc import Callable

import msgspec
from aiohttp import web

from l4.admin import Page
from l4.config.settings import Settings
from waypoint.ask.explain import explain
from waypoint.ask.explanation import Explanation
from waypoint.ask.question import InvalidQuestion, Question
from waypoint.config.snapshot import Snapshot

EXPLAIN_PATH = "/explain"
EXPLAIN_SHOWS = "why a request goes where it goes: ?from=NAMESPACE/ACCOUNT&to=HOST:PORT&method=&path=&header=NAME:VALUE"


def explain_page(current: Callable[[], Snapshot], settings: Settings) -> Page:
    """Works in a thread, because a table may have thousands of routes; one at a time."""
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
                explanation = await asyncio.to_thread(explain, current(), question, settings, time.time())
        except InvalidQuestion as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        return web.Response(body=as_json(explanation), content_type="application/json")

    return page


def as_json(explanation: Explanation) -> bytes:
    return msgspec.json.format(msgspec.json.encode(explanation), indent=2) + b"\n"
