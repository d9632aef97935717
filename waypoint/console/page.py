"""The console: a web page that shows what a waypoint, or a whole laptop mesh, does now.

The page consists of files (`assets`), which need no build step and nothing from outside. It asks the administration
pages of programs for JSON while somebody looks at it; without a look it costs nothing. `/programs` names these programs
and says where their pages are: at a waypoint's administration port there is one, below `/`.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec

from l4.admin import Page
from l4.aiohttp import web

CONSOLE_PATH = "/console/{file:.*}"
PROGRAMS_PATH = "/programs"
ASSETS = Path(__file__).parent / "assets"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Program:
    """`kind` is waypoint or ztunnel; `pages` is the path below which its administration pages are. `workload` is what a
    waypoint is called in metrics, NAMESPACE/NAME."""

    name: str
    kind: str
    workload: str = ""
    pages: str = "/"


async def console_page(request: web.Request) -> web.Response:
    """Serve a file of the console."""
    name = request.match_info["file"] or "index.html"
    path = ASSETS / name
    known = await asyncio.to_thread(_known)  # a path that leaves the folder is not among them
    if name not in known:
        raise web.HTTPNotFound(text=f"the console has no file {name}\n")
    return web.Response(
        body=await asyncio.to_thread(path.read_bytes), content_type=_TYPES[path.suffix], charset="utf-8"
    )


async def to_console(_: web.Request) -> web.Response:
    raise web.HTTPFound("/console/")


def console_pages(name: str, kind: str) -> dict[str, tuple[str, Page]]:
    """The pages that a program's own administration port needs for the console."""

    async def programs(_: web.Request) -> web.Response:
        return programs_json([Program(name, kind)])

    return {
        "/console": ("", to_console),
        CONSOLE_PATH: ("what this program does now, for a browser", console_page),
        PROGRAMS_PATH: ("the programs that the console shows", programs),
    }


def programs_json(programs: list[Program]) -> web.Response:
    return web.Response(body=msgspec.json.encode(programs), content_type="application/json")


def _known() -> frozenset[str]:
    return frozenset(str(it.relative_to(ASSETS)) for it in ASSETS.rglob("*") if it.suffix in _TYPES)
