"""The model's arithmetic, its page, and one of its figures against a real process."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from bench import capacity
from bench.capacity import Costs, Load, Mesh, Missing, controller, request_us, waypoint, ztunnel

COSTS = Costs(
    bare_us=20,
    full_us=50,
    features_us=dict.fromkeys(capacity.FEATURES, 2.0),
    mib_us=1000,
    waypoint_mib=80,
    tunnel_kib=10,
    connection_kib=40,
    route_kib=8,
    ztunnel_mib=60,
    carried_us=20,
    opened_us=200,
)


def test_a_request_costs_its_features_and_its_body() -> None:
    assert request_us(COSTS, Load(features=("log", "tokens"), body_kib=1024)) == 20 + 2 + 2 + 1000
    assert request_us(COSTS, Load(features=None, body_kib=0)) == 50


def test_replicas_are_as_many_as_the_load_fills_to_what_is_planned() -> None:
    load = Load(requests=120_000, body_kib=0, features=None, changes=0)  # six cores

    need = waypoint(COSTS, load)

    assert (need.count, need.cores) == (10, pytest.approx(0.6))
    assert waypoint(COSTS, replace(load, requests=1)).count == capacity.LEAST_REPLICAS


def test_a_waypoint_that_only_follows_changes_is_refused() -> None:
    with pytest.raises(ValueError, match="300 changes a second leave nothing"):
        waypoint(COSTS, Load(changes=300))


def test_what_a_ztunnel_knows_grows_with_the_mesh_unless_it_asks_on_demand() -> None:
    small, large = Mesh(nodes=100), Mesh(nodes=10_000)

    assert ztunnel(COSTS, large).mib > 10 * ztunnel(COSTS, small).mib
    assert ztunnel(COSTS, large, on_demand=True).mib == pytest.approx(ztunnel(COSTS, small, on_demand=True).mib)


def test_telling_every_node_of_every_change_grows_with_the_square() -> None:
    def cores(nodes: int) -> float:
        need = controller(COSTS, Mesh(nodes))
        return need.cores * need.count

    assert cores(10_000) > 50 * cores(1_000)


def test_a_figure_that_was_not_measured_is_named() -> None:
    with pytest.raises(Missing, match="no figure 'CPU µs/request' of 'nothing switched on'"):
        Costs.of({"summary": {}})


def test_the_page_has_the_tables_of_the_published_figures() -> None:
    page = capacity.PAGE.read_text()

    assert page == capacity.written(page, Costs.of(json.loads(capacity.MEASURED.read_text())))


def test_the_command_of_the_page_answers_with_the_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = re.findall(r"^    python -m bench.capacity (.*)$", capacity.PAGE.read_text(), re.MULTILINE)

    assert capacity.main(shlex.split(command)) == 0

    said = capsys.readouterr().out
    assert re.search(r"^waypoint of the namespace: [2-9] × 0\.\d\d cores, \d+ MiB$", said, re.MULTILINE)
    assert "ztunnel of a node, on demand: 500 × " in said


def test_figures_that_are_not_there_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(["--figures", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
