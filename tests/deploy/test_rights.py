"""The chart gives each program the right to read what it reads, and no other."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from l4.config.kinds import Kinds
from l4.discovery import kubernetes
from l4.node import objects
from waypoint.config import kinds
from waypoint.controller import concluding
from waypoint.controller.kinds import TOLD

TEMPLATE = Path(__file__).parents[2] / "deploy" / "chart" / "templates" / "rights.yaml"
READ = {"list", "watch"}


def rules(role: str) -> list[dict[str, Any]]:
    text = "\n".join(line for line in TEMPLATE.read_text().splitlines() if "{{" not in line)
    found = [
        it for it in yaml.safe_load_all(text) if it and (it["kind"], it["metadata"]["name"]) == ("ClusterRole", role)
    ]
    assert len(found) == 1
    return list(found[0]["rules"])


def plural(kind: str) -> str:
    name = kind.lower()
    return f"{name[:-1]}ies" if name.endswith(("cy", "ry")) else f"{name}es" if name.endswith("ss") else f"{name}s"


@pytest.mark.parametrize(
    ("role", "read"),
    [
        ("pywaypoint-waypoint", kinds.KINDS),
        ("pywaypoint-ztunnel", kubernetes.KINDS),
        ("pywaypoint-agent", objects.KINDS),
    ],
)
def test_what_is_read_may_be_read(role: str, read: Kinds) -> None:
    # EndpointSlices say the same as Endpoints.
    allowed = {
        (group, resource)
        for it in rules(role)
        if set(it["verbs"]) == READ
        for group in it["apiGroups"]
        for resource in it["resources"]
    }

    assert allowed == {(group, plural(kind)) for group, kind in read if (group, kind) != ("", "Endpoints")}


def test_a_controller_may_read_what_statuses_depend_on_and_write_these_statuses() -> None:
    allowed = {
        (group, resource, verb)
        for it in rules("pywaypoint-controller")
        if "resourceNames" not in it
        for group in it["apiGroups"]
        for resource in it["resources"]
        for verb in it["verbs"]
    }

    assert {(group, plural(kind), verb) for group, kind in concluding.READ for verb in READ} <= allowed
    assert {(group, f"{name}/status", "patch") for (group, _), name in TOLD.items()} <= allowed


@pytest.mark.parametrize("role", ["pywaypoint-waypoint", "pywaypoint-ztunnel"])
def test_who_only_reads_may_only_read(role: str) -> None:
    assert all(set(it["verbs"]) == READ for it in rules(role))


def test_of_config_maps_a_waypoint_may_read_one() -> None:
    assert [it["resourceNames"] for it in rules("pywaypoint-waypoint") if it["resources"] == ["configmaps"]] == [
        ["istio"]
    ]


def test_nobody_may_change_what_a_pod_runs() -> None:
    writes = [
        resource
        for role in ("pywaypoint-waypoint", "pywaypoint-ztunnel", "pywaypoint-agent", "pywaypoint-controller")
        for it in rules(role)
        if not set(it["verbs"]) <= {"get", "list", "watch"}
        for resource in it["resources"]
    ]

    assert "pods/status" in writes
    assert not [it for it in writes if it in {"pods", "pods/exec", "pods/ephemeralcontainers", "nodes/proxy", "*"}]
