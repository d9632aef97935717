"""The controller as discovery server, with a real API server: a client knows the mesh as its objects say it.

The objects are objects only; there is no kubelet."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.struct_pb2 import Struct

from l4._proto.xds_pb2 import Node
from l4.configuration import source_of
from l4.discovery.kubernetes import KINDS
from l4.discovery.mesh import Mesh
from l4.kubernetes.options import KubernetesOptions
from l4.xds.discovered import DiscoveredMesh, MeshState
from l4.xds.feed import DiscoveryFeed
from l4.xds.server import DiscoveryServer
from tests.cluster.bare import BareServer, bare_server
from tests.cluster.istiod import crds
from tests.cluster.mesh import CHART, helm
from tests.cluster.programs import Program, commands, free_port, running
from tests.cluster.waiting import until
from tests.kit.aio import run
from tests.kit.served import Served, assert_same

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME, ROLE = "mesh", "pywaypoint-waypoint"
MESH = Mesh()
ISTIO = (
    "authorizationpolicies.security.istio.io",
    "peerauthentications.security.istio.io",
    "serviceentries.networking.istio.io",
    "workloadentries.networking.istio.io",
)


def rights() -> Iterator[dict[str, Any]]:
    """What the chart lets a controller do that serves discovery."""
    made = [it for it in yaml.safe_load_all(helm("template", "mesh", str(CHART), "--set=discovery.serve=true")) if it]
    for it in made:
        if it["kind"] in ("ClusterRole", "Role") and it["metadata"]["name"] == "pywaypoint-controller":
            yield from it["rules"]


def policy(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    about = {"name": "app", "namespace": NAME}
    return {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": about, "spec": spec}


class World:
    def __init__(self, api: BareServer, folder: Path, port: int, replica: Program) -> None:
        self.api = api
        self.folder = folder
        self.port = port
        self.replica = replica
        self.roots, self.token = folder / "roots.pem", folder / "token"

    def credentials(self) -> None:
        """As kubelets mount them."""
        get = ("get", "configmap", "istio-ca-root-cert", "-n", NAME, "--ignore-not-found", "-o=json")
        self.roots.write_text(json.loads(until(lambda: self.api.kubectl(*get)))["data"]["root-cert.pem"])
        self.token.write_text(self.api.kubectl("create", "token", "ztunnel", "-n", NAME, "--audience=istio-ca"))

    def same(self) -> MeshState:
        """What a client of discovery knows. It is what the objects say."""
        its = Struct()
        its.update({"NAMESPACE": NAME})
        node = Node(id=f"ztunnel~1.1.1.1~z.{NAME}~{NAME}.svc.cluster.local", metadata=its)
        server = DiscoveryServer(f"localhost:{self.port}", self.roots, self.token, "Kubernetes", node)

        async def known() -> tuple[Served, MeshState]:
            source, feed = source_of(KubernetesOptions(self.api.kubeconfig, ""), KINDS), DiscoveryFeed(server, MESH)
            served, mesh = Served(MESH), DiscoveredMesh(MESH, lambda workload: True)
            try:
                served.take(await source.load())
                return served, mesh.take(await feed.load())
            finally:
                await source.close()
                await feed.close()

        def agree() -> MeshState | None:
            served, state = run(known())
            try:
                assert_same(served, state, MESH)
            except AssertionError as error:
                return print(error)  # the controller is a moment later
            return state

        return until(agree)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    with ExitStack() as stack:
        api = stack.enter_context(bare_server(folder))
        api.install_gateway_api()
        api.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ztunnel", "namespace": NAME}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}},
        )
        api.apply(*crds(*ISTIO))
        api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        port = free_port()
        more = [f"--ca-address=localhost:{port}", f"--sign=127.0.0.1:{port}", "--serve-discovery", f"--role={ROLE}"]
        command = [it for it in commands(NAME, folder)["controller"] if not it.startswith(("--ca-address", "--role"))]
        account = api.account(NAME, list(rights()))
        program = stack.enter_context(running([*command, *more], folder / "controller.log", account))
        program.becomes_ready()
        it = World(api, folder, port, program)
        it.credentials()
        yield it


def pod(name: str, ip: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The object, and its status."""
    about = {"name": name, "namespace": NAME, "labels": {"app": "app"}}
    about["annotations"] = {"ambient.istio.io/redirection": "enabled"}
    its = {"nodeName": NAME, "serviceAccountName": "ztunnel", "containers": [{"name": "app", "image": "app"}]}
    ready = [{"type": "Ready", "status": "True"}]
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": its}, {"status": status}


def test_both_ways_agree_and_a_ztunnel_becomes_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAMESPACE", NAME)
    with world(tmp_path) as it:
        assert it.same().registry.workloads == {}

        ports = [{"name": "web", "port": 80, "targetPort": 8080}]
        about = {"name": "app", "namespace": NAME}
        spec = {"selector": {"app": "app"}, "ports": ports}
        it.api.apply({"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec})
        for number in range(3):
            made, status = pod(f"app-{number}", f"10.0.0.{number + 1}")
            it.api.apply(made)
            patch = ("patch", "pod", f"app-{number}", "-n", NAME, "--subresource=status", f"-p={json.dumps(status)}")
            it.api.kubectl(*patch)
        until(lambda: len(it.same().registry.workloads) == 3)

        it.api.kubectl("delete", "pod", "app-1", "-n", NAME, "--force", "--grace-period=0")
        until(lambda: len(it.same().registry.workloads) == 2)

        selected = {"selector": {"matchLabels": {"app": "app"}}}
        it.api.apply(
            policy("AuthorizationPolicy", {**selected, "rules": [{"from": [{"source": {"namespaces": ["admin"]}}]}]}),
            policy("PeerAuthentication", {"mtls": {"mode": "STRICT"}}),
        )
        until(lambda: len(it.same().policies.policies) == 2)
        (workload, _) = it.same().registry.workloads.values()
        assert workload.authorization_policies == ("istio-system/istio_converted_static_strict", f"{NAME}/app")

        ztunnel = [part for part in commands(NAME, tmp_path)["ztunnel"] if "--kube" not in part]
        where = [f"--discovery=localhost:{it.port}", f"--discovery-root={it.roots}", f"--discovery-token={it.token}"]
        program = Program([*ztunnel, *where], tmp_path / "ztunnel.log")
        try:
            program.becomes_ready()
        finally:
            program.end()
