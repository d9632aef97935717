"""`waypoint compile` prints what the process of the same files has in force, wherever in the mesh that process is."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kit.aio import run
from tests.kit.process import waypoint_process

ZONES = {"z1": "10.9.0.1", "z2": "10.9.0.2"}
"""A pod of the waypoint in each zone."""


def _node_and_pods(zone: str, ip: str) -> str:
    return f"""
apiVersion: v1
kind: Node
metadata: {{name: {zone}, labels: {{topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: waypoint-{zone}, labels: {{gateway.networking.k8s.io/gateway-name: waypoint}}}}
spec: {{serviceAccountName: waypoint, nodeName: {zone}}}
status: {{podIP: {ip}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: app-{zone}, labels: {{app: app}}}}
spec: {{nodeName: {zone}}}
status: {{podIP: {ip}0}}
"""


NEAR_FIRST = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: near-first}
spec:
  host: app
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3}
    loadBalancer: {localityLbSetting: {enabled: true}}
"""


def _compiled(*files: Path, own_ip: str) -> Any:
    command = (sys.executable, "-m", "waypoint.cli", "compile", *map(str, files), "-o", "json")
    environment = {**os.environ, "INSTANCE_IP": own_ip}
    return json.loads(subprocess.run(command, capture_output=True, check=True, env=environment, timeout=60).stdout)


@pytest.mark.parametrize("zone", ZONES)
def test_a_replica_in_either_zone_has_what_compile_prints_for_it(tmp_path: Path, zone: str) -> None:
    places = tmp_path / "places.yaml"
    places.write_text("---".join((*(_node_and_pods(*it) for it in ZONES.items()), NEAR_FIRST)))
    files = tmp_path / "mesh.yaml", places

    async def scenario() -> tuple[Any, dict[str, Any]]:
        async with waypoint_process(tmp_path, more=[places], INSTANCE_IP=ZONES[zone]) as it:
            live = await it.config_dump()
            compiled = {name: await asyncio.to_thread(_compiled, *files, own_ip=ip) for name, ip in ZONES.items()}
            return live, compiled

    live, compiled = run(scenario(), 90)

    other = next(it for it in ZONES if it != zone)
    assert live["version"] == compiled[zone]["version"] != compiled[other]["version"]
    for part in ("clusters", "destinations", "problems"):
        assert live[part] == compiled[zone][part]
    assert live["clusters"] != compiled[other]["clusters"]
