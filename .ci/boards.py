"""Writes Grafana's JSON from deploy/grafana/boards.yaml, for `make boards`."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana"
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 24, 8, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
Json = dict[str, Any]


def files() -> dict[str, str]:
    boards = yaml.safe_load((FOLDER / "boards.yaml").read_text())
    return {f"{it['name']}.json": json.dumps(board_json(it), indent=1) + "\n" for it in boards}


def board_json(board: Json) -> Json:
    panels: list[Json] = []
    top = 0
    for row in board["rows"]:
        panels.append({"type": "row", "title": row["title"], "collapsed": False, "gridPos": at(0, top, COLUMNS, 1)})
        top += 1
        for number, panel in enumerate(row["panels"]):
            down, right = divmod(number, COLUMNS // PANEL_WIDTH)
            place = at(right * PANEL_WIDTH, top + down * PANEL_HEIGHT, PANEL_WIDTH, PANEL_HEIGHT)
            panels.append(panel_json(panel, place, board["selectors"]))
        top += (down + 1) * PANEL_HEIGHT
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    all_values = board.get("all_values", {})
    variables = (variable_json(name, query, all_values.get(name, ".*")) for name, query in board["variables"].items())
    return {
        "uid": f"pywaypoint-{board['name']}",
        "title": board["title"],
        "tags": ["pywaypoint", "istio"],
        "schemaVersion": 39,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source, *variables]},
        "panels": [{"id": number, **it} for number, it in enumerate(panels, start=1)],
    }


def at(left: int, top: int, width: int, height: int) -> Json:
    return {"x": left, "y": top, "w": width, "h": height}


def variable_json(name: str, query: str, all_values: str) -> Json:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": all_values,
        "current": {"text": "All", "value": "$__all"},
    }


def panel_json(panel: Json, place: Json, selectors: dict[str, str]) -> Json:
    queries = ((legend, re.sub(r"%(\w+)", lambda it: selectors[it[1]], it)) for legend, it in panel["queries"].items())
    custom = {"fillOpacity": 8, "showPoints": "never"}
    return {
        "type": "timeseries",
        "title": panel["title"],
        "description": panel.get("meaning", ""),
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel["unit"], "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": ref, "datasource": SOURCE, "expr": expression.strip(), "legendFormat": legend}
            for ref, (legend, expression) in zip("ABCDEF", queries, strict=False)
        ],
    }


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
        print(f"deploy/grafana/{name} is written")
