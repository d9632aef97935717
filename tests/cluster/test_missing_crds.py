"""An API server without the CRDs of the Gateway API: what Helm and each program say, and that they go on once it has
them. That Istio's CRDs are missing is the normal case of the whole cluster."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.bare import BareServer, bare_server
from tests.cluster.mesh import CHART
from tests.cluster.programs import commands, running
from tests.cluster.tools import BIN
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "early"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BareServer]:
    with bare_server(tmp_path) as server:
        yield server


def test_each_says_which_crds_are_missing_and_goes_on_once_they_are_there(server: BareServer, tmp_path: Path) -> None:
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}})
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}}
    server.apply(node)
    command = [str(BIN / "helm"), f"--kubeconfig={server.kubeconfig}", "install", "pywaypoint", str(CHART)]

    installing = subprocess.run([*command, "-n", NAME], capture_output=True, text=True, timeout=60, check=False)
    with ExitStack() as stack:
        started = {
            program: stack.enter_context(running(its, tmp_path / f"{program}.log", server.kubeconfig))
            for program, its in commands(NAME, tmp_path).items()
        }
        controller, waypoint = started["controller"], started["waypoint"]

        assert installing.returncode != 0
        assert 'no matches for kind "GatewayClass"' in installing.stderr
        assert server.kubectl("get", "deployments,daemonsets,clusterroles", "-A", "-l", "helm.sh/chart") == ""
        until(lambda: "is the CRD of gateways.gateway.networking.k8s.io installed?" in controller.readiness()[1])
        assert controller.readiness()[0] == 503
        until(lambda: "does not serve GRPCRoute.gateway.networking.k8s.io, Gateway.gateway" in waypoint.log)
        until(lambda: f"there is no Gateway {NAME}/{NAME}" in waypoint.readiness()[1])
        assert waypoint.readiness()[0] == 503
        for program in ("ztunnel", "agent"):
            started[program].becomes_ready()

        server.install_gateway_api()
        server.apply(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "metadata": {"name": NAME, "namespace": NAME},
                "spec": {
                    "gatewayClassName": NAME,
                    "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
                },
            }
        )
        for program in started.values():
            program.becomes_ready()
