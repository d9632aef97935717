"""istiod on this machine, for the test cluster: it may read everything and write nothing outside of its namespace.

So it neither answers in place of the mesh's own controller, nor replaces the roots in its ConfigMaps. Its certificate
is a test's, for 127.0.0.1.
"""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from l4._proto.xds_pb2 import Node
from l4.xds.server import DiscoveryServer
from tests.cluster import tools
from tests.cluster.controllers import rule, service_account
from tests.cluster.kubectl import kubectl
from tests.kit.certificates import MeshPki

_READY_SECONDS = 120.0
_MAY = [
    rule("*", "*", "get list watch"),
    rule("authentication.k8s.io", "tokenreviews", "create"),
    rule("authorization.k8s.io", "subjectaccessreviews", "create"),
]
_OFF = (
    "ENABLE_CA_SERVER",
    "AMBIENT_ENABLE_STATUS",
    "PILOT_ENABLE_GATEWAY_API_STATUS",
    "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER",
    "PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER",
    "ENABLE_LEADER_ELECTION",
)
"""What would write."""


class Istiod:
    """Serves discovery at `address`. `namespace` exists, and is that of its service account and of its clients'."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self._folder = folder
        self._pki = MeshPki(folder / "istiod")
        pair = self._pki.leaf(ips=["127.0.0.1"])
        self._chain, self._key = folder / "istiod.pem", folder / "istiod.key"
        self._chain.write_bytes(pair.chain_pem)
        self._key.write_bytes(pair.key_pem)
        self.root, self.token = self._pki.bundle_path, folder / "token"
        self.token.write_text(kubectl("create", "token", "default", "-n", namespace, "--audience=istio-ca"))
        self._kubeconfig = service_account(namespace, folder, _MAY)
        (folder / "mesh.yaml").write_text("trustDomain: cluster.local\n")
        self._port = 25010
        self.address = f"127.0.0.1:{self._port + 2}"
        self._process: subprocess.Popen[bytes] | None = None

    def server(self) -> DiscoveryServer:
        """What a ztunnel of the namespace needs to call it."""
        about = Node(id=f"ztunnel~1.1.1.1~test.{self.namespace}~{self.namespace}.svc.cluster.local")
        about.metadata.update({"NAME": "test", "NAMESPACE": self.namespace, "CLUSTER_ID": "Kubernetes"})
        return DiscoveryServer(self.address, self.root, self.token, "Kubernetes", about)

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        addresses = ("grpcAddr", "httpAddr", "secureGRPCAddr", "monitoringAddr")
        command = [
            "nice", "-n", "19", str(tools.BIN / "pilot-discovery"), "discovery",
            f"--kubeconfig={self._kubeconfig}", f"--meshConfig={self._folder / 'mesh.yaml'}", "--clusterID=Kubernetes",
            f"--tlsCertFile={self._chain}", f"--tlsKeyFile={self._key}", f"--caCertFile={self.root}",
            *(f"--{name}=127.0.0.1:{self._port + number}" for number, name in enumerate(addresses)),
            "--httpsAddr=", "--ctrlz_port=0",
        ]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "PILOT_ENABLE_AMBIENT": "true"}
        environment |= {"POD_NAME": "istiod", "POD_NAMESPACE": self.namespace, "CLUSTER_ID": "Kubernetes"}
        environment |= dict.fromkeys(_OFF, "false")
        with (self._folder / "istiod.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, f"istiod has ended; see {self._folder}/istiod.log"
            assert time.monotonic() < deadline, f"istiod is not ready; see {self._folder}/istiod.log"
            time.sleep(0.3)

    def end(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
            self._process = None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port + 1}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def crds(*names: str) -> list[dict[str, object]]:
    """The CRDs of Istio with these names, from the module that istiod is built of."""
    folder = tools.module_folder("istio", "istio.io/istio")
    text = (folder / "manifests" / "charts" / "base" / "files" / "crd-all.gen.yaml").read_text()
    return [it for it in yaml.safe_load_all(text) if it and it["metadata"]["name"] in names]
