"""Grafana's boards and Prometheus' alerts: they ask for metrics that exist, and link to pages that exist."""

import json
import re
import runpy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.contracts.test_modules import ROOT

GRAFANA, PROMETHEUS = ROOT / "deploy" / "grafana", ROOT / "deploy" / "prometheus"
WRITTEN: dict[str, str] = runpy.run_path(str(ROOT / ".ci" / "boards.py"))["files"]()
FAMILIES = re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}
OURS = {name + suffix for name, kind in FAMILIES for suffix in SUFFIXES.get(kind, ("",))}
OF_OTHERS = {
    # Prometheus' client and Prometheus itself
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds", "up"),
    # kube-state-metrics, cAdvisor
    *("kube_pod_status_ready", "kube_pod_container_resource_limits", "container_memory_working_set_bytes"),
}


def queries() -> Iterator[tuple[str, str]]:
    """Each query, and where it stands."""
    for name in WRITTEN:
        board = json.loads((GRAFANA / name).read_text())
        for panel in board["panels"]:
            yield from ((f"{name}: {panel['title']}", it["expr"]) for it in panel.get("targets", ()))
        yield from ((f"{name}: {it['name']}", it["definition"]) for it in board["templating"]["list"][1:])
    yield from ((it["alert"], it["expr"]) for it in alerts())


def alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def metrics_of(query: str) -> set[str]:
    selectors = re.sub(r"\b(by|on|group_left) \([^)]*\)|\{[^}]*\}", "", re.sub(r'"[^"]*"', "", query))
    return set(re.findall(r"\b(?:istio|pywaypoint|workload_manager|process|kube|container)_\w+|\bup\b", selectors))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_board_is_what_make_boards_writes(name: str) -> None:
    assert (GRAFANA / name).read_text() == WRITTEN[name]


@pytest.mark.parametrize(("place", "query"), [pytest.param(*it, id=f"{n}-{it[0]}") for n, it in enumerate(queries())])
def test_a_query_asks_for_metrics_that_exist(place: str, query: str) -> None:
    assert metrics_of(query), place
    assert metrics_of(query) - OURS - OF_OTHERS == set()


def test_every_metric_of_the_programs_is_on_a_board_or_in_an_alert() -> None:
    asked = set().union(*(metrics_of(query) for _, query in queries()))
    shown = {name for name, kind in FAMILIES if asked & {name + suffix for suffix in SUFFIXES.get(kind, ("",))}}

    assert {name for name, _ in FAMILIES} - shown == set()


def headings(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", it.lower()).replace(" ", "-") for it in titles}


@pytest.mark.parametrize("alert", [pytest.param(it, id=it["alert"]) for it in alerts()])
def test_an_alert_says_what_happens_and_links_to_its_runbook(alert: dict[str, Any]) -> None:
    annotations = alert["annotations"]

    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert annotations["summary"]
    assert annotations["description"]
    page, _, section = annotations["runbook_url"].removeprefix("https://pywaypoint.dev/docs/").partition("#")
    assert section in headings(f"{page}.md")


def test_every_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_rests() -> None:
    tests = yaml.safe_load((ROOT / "tests" / "observability" / "alerts.yaml").read_text())["tests"]
    expected = [it for test in tests for it in test["alert_rule_test"]]
    names = {it["alert"] for it in alerts()}

    assert {it["alertname"] for it in expected if it.get("exp_alerts")} == names
    assert {it["alertname"] for it in expected if not it.get("exp_alerts")} == names
