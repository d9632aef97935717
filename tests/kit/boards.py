"""The queries of Grafana's boards, with the variables as they are when a board is opened."""

import json

from tests.contracts.test_modules import ROOT

_VARIABLES = {
    "$__rate_interval": "20s",
    "$namespace": ".*",
    "$service": ".*",
    "$waypoint": ".+",
    "$component": "ztunnel|ztunnel-agent|controller",
}


def queries_of(board: str, **variables: str) -> dict[str, str]:
    """Return the queries by `BOARD: PANEL: NUMBER`. `variables` replace the usual values."""
    found = {}
    for panel in json.loads((ROOT / "deploy" / "grafana" / f"{board}.json").read_text())["panels"]:
        for number, each in enumerate(panel.get("targets", ())):
            query = each["expr"]
            for name, value in (_VARIABLES | variables).items():
                query = query.replace(name, value)
            assert "$" not in query
            found[f"{board}: {panel['title']}: {number}"] = query
    return found
