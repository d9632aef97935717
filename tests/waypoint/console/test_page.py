import hashlib
import re
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from yarl import URL

from tests.kit.aio import run
from waypoint.console.page import ASSETS, console_pages

VENDOR = ASSETS / "vendor"
OURS = [it for it in sorted(ASSETS.rglob("*")) if it.is_file() and VENDOR not in it.parents]


async def _asked(path: str) -> tuple[int, str, str, str]:
    """Status, type, text and final path of the answer."""
    app = web.Application()
    for place, (_, page) in console_pages("waypoint", "waypoint").items():
        app.router.add_get(place, page)
    async with (
        TestServer(app) as server,
        ClientSession() as client,
        client.get(URL(str(server.make_url("/")) + path, encoded=True)) as it,
    ):
        return it.status, it.content_type, await it.text(), it.url.path


def test_the_page_is_served_below_a_path_of_its_own() -> None:
    async def scenario() -> None:
        status, content_type, text, path = await _asked("console")

        assert (status, content_type, path) == (200, "text/html", "/console/")
        assert "<title>pywaypoint console</title>" in text

    run(scenario())


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("main.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
def test_its_files_are_served_with_their_types(name: str, content_type: str) -> None:
    async def scenario() -> None:
        assert (await _asked(f"console/{name}"))[:3] == (200, content_type, (ASSETS / name).read_text())

    run(scenario())


@pytest.mark.parametrize(
    "name", ["nothing.js", "../page.py", "..%2fpage.py", "%2e%2e/page.py", "vendor/README.md", "/etc/passwd", "."]
)
def test_nothing_else_is_served(name: str) -> None:
    async def scenario() -> None:
        assert (await _asked(f"console/{name}"))[0] == 404

    run(scenario())


def test_a_waypoint_names_itself_as_the_only_program() -> None:
    async def scenario() -> None:
        (program,) = msgspec.json.decode((await _asked("programs"))[2])

        assert program == {"name": "waypoint", "kind": "waypoint", "workload": "", "pages": "/"}

    run(scenario())


@pytest.mark.parametrize("file", OURS, ids=lambda it: str(it.relative_to(ASSETS)))
def test_a_file_of_ours_refers_to_files_that_exist_and_to_nothing_outside(file: Path) -> None:
    text = file.read_text()
    named = re.findall(r'(?:from "|import "|href="|src=")([^"#$]+)[#"]', text)

    assert [it for it in named if not (file.parent / it).is_file()] == []
    assert re.findall(r"https?://(?!www\.w3\.org/)[^\s\"'`)]+", text) == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(|document\.write", text)


def test_libraries_of_others_are_as_they_were_published_and_have_their_licenses() -> None:
    listed = dict(
        reversed(it.split()) for it in re.findall(r"^    (\w{64}  \S+)$", (VENDOR / "README.md").read_text(), re.M)
    )
    files = [it for it in VENDOR.rglob("*") if it.is_file() and it.name != "README.md"]

    assert listed == {str(it.relative_to(VENDOR)): hashlib.sha256(it.read_bytes()).hexdigest() for it in files}
    assert all((folder / "LICENSE").is_file() for folder in VENDOR.iterdir() if folder.is_dir())
