"""Where a waypoint knows the mesh from: which objects it asks for, with and without a discovery server."""

import re
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.discovery.own_pod import OwnPod
from l4.identity.options import CertificateFiles
from l4.kubernetes.options import KubernetesOptions
from l4.telemetry.metrics import MeshMetrics
from l4.xds.metrics import METRICS as XDS
from l4.xds.options import DiscoveryOptions
from tests.e2e.test_age import KUBECONFIG
from tests.kit.aio import run
from tests.kit.discovery_server import DiscoveryServer
from tests.kit.kubernetes_server import kubernetes_server
from waypoint.process.knowing import knowing_of, objects_of
from waypoint.process.options import GatewayName, RunOptions

NOWHERE = ("127.0.0.1", 0)
SENT = ("endpointslices", "nodes")


def options(folder: Path, discovery: DiscoveryServer | None) -> RunOptions:
    files = CertificateFiles(folder, folder, folder)
    kubernetes = KubernetesOptions(folder / "kubeconfig")
    its = discovery and DiscoveryOptions(discovery.address, discovery.pki.bundle_path, discovery.token_path)
    gateway = GatewayName("shop", "waypoint")
    return RunOptions(kubernetes, gateway, files, NOWHERE, NOWHERE, NOWHERE, NOWHERE, "", discovery=its or None)


@pytest.mark.parametrize("is_sent", [False, True])
def test_what_a_discovery_server_sends_is_not_read_from_the_api_server(tmp_path: Path, is_sent: bool) -> None:
    async def scenario() -> None:
        discovery = DiscoveryServer(tmp_path)
        async with kubernetes_server() as server, discovery.serving():
            for path, kind in (("/api/v1", "Pod"), ("/api/v1", "Node"), ("/api/v1", "Service")):
                server.serve(path, kind)
            server.serve("/apis/discovery.k8s.io/v1", "EndpointSlice")
            (tmp_path / "kubeconfig").write_text(KUBECONFIG.format(server.address))
            settings = Settings(OwnPod(pod_namespace="shop"))
            its = options(tmp_path, discovery if is_sent else None)
            knowing = knowing_of(its, settings, objects_of(its))
            found = await knowing.source.load()
            metrics = MeshMetrics("", "", XDS)
            knowing.show(metrics)
            await knowing.source.close()

        assert found.doubts == ()
        lists = {re.sub(r".*?(\S+)\?.*", r"\1", it) for it in server.requests if "?" in it}
        assert "/api/v1/services" in lists
        assert ("/api/v1/namespaces/shop/pods" if is_sent else "/api/v1/pods") in lists
        assert ("/api/v1/pods" in lists) is not is_sent
        assert any(it.endswith(SENT) for it in lists) is not is_sent
        shown = metrics.render("")[0].decode()
        assert ("istio_xds_message_total{" in shown) is is_sent
        assert (discovery.address in knowing.server) is is_sent

    run(scenario())
