"""A short `make loadtest`: each arrangement answers pages, over the path that it claims."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import loadtest, pages
from bench.arrangements import ARRANGEMENTS, running

pytestmark = pytest.mark.timeout(300)
CALLS = 3
"""Of a page: details, reviews, and of reviews to ratings."""


def calls(log: Path) -> int:
    return sum(line.startswith("[") for line in log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize(
    ("arrangement", "logs"),
    [
        ("none", {}),
        ("ambient", {"waypoint.default.waypoint-access": CALLS}),
        # At the asking end and at the asked one. The product page's own program is asked without its sidecar.
        (
            "sidecars",
            {
                "productpage-v1-0-access": 2,
                "details-v1-0-access": 1,
                "reviews-v3-0-access": 2,
                "ratings-v1-0-access": 1,
                "reviews-v1-0-access": 0,
            },
        ),
    ],
)
def test_each_page_is_three_calls_through_the_proxies(arrangement: str, logs: dict[str, int], tmp_path: Path) -> None:
    with running(arrangement, tmp_path) as it:
        load = pages.closed(it.page, connections=2, seconds=0.5)
        cpu, memory = it.cpu_seconds(), it.memory_mib()

    count = len(load.milliseconds) + 1  # one was asked for to find out whether it is complete
    assert load.failed == 0
    assert {name: calls(tmp_path / "logs" / f"{name}.log") for name in logs} == {
        name: each * count for name, each in logs.items()
    }
    assert cpu.keys() == memory.keys()
    assert min(memory.values()) > 5


def test_the_load_test_compares_arrangements_as_json_and_as_a_chart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chart = tmp_path / "chart.svg"

    arguments = ["--seconds", "1", "--rate", "40", "--connections", "2", "--rounds", "1"]
    status = loadtest.main([*arguments, "--json", "--chart", str(chart)])

    found = json.loads(capsys.readouterr().out)
    assert status == 0
    assert [it["arrangement"] for it in found["rounds"][0]] == list(ARRANGEMENTS)
    assert found["medians"]["ambient"]["memory_mib"].keys() == {"applications", "ztunnel", "waypoint"}
    assert found["medians"]["sidecars"]["cpu_ms"]["sidecars"] > 0
    assert ElementTree.fromstring(chart.read_text()).tag.endswith("svg")
