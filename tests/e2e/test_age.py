"""Every program that follows an API server tells how long the server has said nothing."""

import asyncio
import re
import sys
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from tests.kit.aio import run
from tests.kit.kubernetes_server import kubernetes_server
from tests.kit.mesh import address
from tests.kit.pod_network import needs_namespaces
from waypoint.cli import cli

KUBECONFIG = """
current-context: lab
contexts: [{{name: lab, context: {{cluster: lab, user: me}}}}]
clusters: [{{name: lab, cluster: {{server: "{}"}}}}]
users: [{{name: me, user: {{token: secret}}}}]
"""
PROGRAMS = {
    "waypoint": "waypoint run --gateway default/waypoint --listen {at}:15008 --certificate {of}/default.waypoint.pem "
    "--private-key {of}/default.waypoint.key --trust-bundle {of}/root.pem",
    "ztunnel": "l4.ztunnel.cli run --node here --certificates {of} --trust-bundle {of}/root.pem",
    "agent": "l4.ztunnel.cli agent run --node here --socket {of}/ztunnel.sock",
    "controller": "waypoint controller run --image a --ca-address a:15012",
}


@pytest.mark.parametrize(
    "name", [*(it for it in PROGRAMS if it != "agent"), pytest.param("agent", marks=needs_namespaces)]
)
def test_the_age_of_what_a_program_knows_grows_while_the_server_is_silent(tmp_path: Path, name: str) -> None:
    for words in (("root", str(tmp_path)), ("workload", str(tmp_path), "default/waypoint")):
        assert CliRunner().invoke(cli, ["certificate", *words]).exit_code == 0

    async def scenario() -> None:
        async with kubernetes_server() as server:
            for kind in ("Pod", "ConfigMap"):
                server.serve("/api/v1", kind)
            at = address()
            (tmp_path / "kubeconfig").write_text(KUBECONFIG.format(server.address))
            command = PROGRAMS[name].format(at=at, of=tmp_path).split()
            ports = {"metrics": 15020, "readiness": 15021, "admin": 15000}
            flags = [f"--{purpose}={at}:{port}" for purpose, port in ports.items()]
            more = (f"--kubeconfig={tmp_path}/kubeconfig", *flags)
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, *more)
            try:
                async with aiohttp.ClientSession() as session, asyncio.timeout(40):
                    while await _age(session, at) < 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.2)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    run(scenario(), 60)


async def _age(session: aiohttp.ClientSession, at: str) -> float:
    try:
        async with session.get(f"http://{at}:15020/stats/prometheus") as answer:
            text = await answer.text()
    except aiohttp.ClientConnectionError:
        return 0.0
    (age,) = re.findall(r"^pywaypoint_config_source_silent_seconds (\S+)$", text, re.MULTILINE)
    return float(age)
