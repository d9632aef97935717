import asyncio
import re
from argparse import Namespace
from pathlib import Path

from bench.console import NOBODY, PAUSE_SECONDS, SHARE, TABLE_SECONDS, VIEWS, measured, table
from tests.kit.aio import run
from waypoint.console.page import ASSETS


def test_the_table_tells_what_each_view_adds_to_nobody() -> None:
    assert table({NOBODY: [0.02, 0.01, 0.09], "Graph": [0.03, 0.04, 0.03]}) == (
        "| | CPU of a core |\n|---|--:|\n| nobody looks | 2.0% |\n| Graph | +1.0% |"
    )


def test_each_view_is_looked_at(tmp_path: Path) -> None:
    found = run(
        asyncio.wait_for(measured(tmp_path, Namespace(services=2, routes=1, rate=20.0, seconds=0.1, rounds=1)), 50), 55
    )

    assert found.keys() == VIEWS.keys()
    assert all(len(shares) == 1 and 0 <= shares[0] < 2 for shares in found.values())


def test_the_bench_asks_as_often_as_the_page() -> None:
    def constant(file: str, name: str) -> float:
        (found,) = re.findall(rf"^const {name} = ([\d.]+);", (ASSETS / file).read_text(), re.MULTILINE)
        return float(found)

    assert constant("live.js", "PAUSE_MS") == PAUSE_SECONDS * 1000
    assert constant("listing.js", "SECONDS") == constant("views/routes.js", "SECONDS") == TABLE_SECONDS
    assert constant("api.js", "SHARE") == SHARE
