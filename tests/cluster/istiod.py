"""istiod on this machine, with the API server of the test cluster or another: it may read everything and write nothing.

So it neither answers in place of the mesh's own controller, nor replaces the roots in its ConfigMaps. Its certificate
is a test's, for 127.0.0.1. With `is_authority`, it also signs certificates, by an intermediate below the same root, for
whoever has a token of the API server; accounts called `ztunnel` may ask for the pods of their nodes. With `is_writing`,
it also does what it does in a cluster of its own: it writes statuses, and makes classes and waypoints.
"""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from l4._proto.xds_pb2 import Node
from l4.xds.server import DiscoveryServer
from tests.cluster import tools
from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.controllers import rule, service_account
from tests.cluster.kubectl import kubectl
from tests.cluster.programs import free_port
from tests.kit.certificates import MeshPki

_READY_SECONDS = 120.0
_MAY = [
    rule("*", "*", "get list watch"),
    rule("authentication.k8s.io", "tokenreviews", "create"),
    rule("authorization.k8s.io", "subjectaccessreviews", "create"),
]
_OFF = (
    "AMBIENT_ENABLE_STATUS",
    "PILOT_ENABLE_GATEWAY_API_STATUS",
    "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER",
    "PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER",
)
"""What would write."""
_ALONE = "ENABLE_LEADER_ELECTION"


class Istiod:
    """Serves discovery at `address`, and with `is_authority` signs there, too.

    `namespace` exists, and is that of its service account and of its clients'. `kubeconfig` is an administrator's.
    """

    def __init__(
        self,
        namespace: str,
        folder: Path,
        kubeconfig: Path = KUBECONFIG,
        *,
        is_authority: bool = False,
        is_writing: bool = False,
    ) -> None:
        self.namespace = namespace
        self.is_authority = is_authority
        self._folder = folder
        self._admin = kubeconfig
        self.pki = MeshPki(folder / "istiod")
        self._chain, self._key, self.root = folder / "istiod.pem", folder / "istiod.key", folder / "roots.pem"
        self.plugged_in = folder / "cacerts"
        self.sign_by(self.pki, self.pki)
        self._off = (_ALONE,) if is_writing else (_ALONE, *_OFF)
        may = [rule("*", "*", "*")] if is_writing else _MAY
        self._kubeconfig = service_account(namespace, folder, may, kubeconfig)
        self.token = self.token_of("controller")
        (folder / "mesh.yaml").write_text("trustDomain: cluster.local\n")
        self._ports = {name: free_port() for name in ("grpcAddr", "httpAddr", "secureGRPCAddr", "monitoringAddr")}
        self.address = f"127.0.0.1:{self._ports['secureGRPCAddr']}"
        self.debugging = f"127.0.0.1:{self._ports['httpAddr']}"
        self._process: subprocess.Popen[bytes] | None = None

    def sign_by(self, pki: MeshPki, *roots: MeshPki) -> None:
        """Let it have its own certificate and its authority below the root of `pki` from its next start on, and let
        everybody trust `roots`."""
        pair = pki.leaf(ips=["127.0.0.1"])
        self._chain.write_bytes(pair.chain_pem)
        self._key.write_bytes(pair.key_pem)
        self.root.write_bytes(b"".join(it.root_pem for it in roots))
        if self.is_authority:
            plug_in(pki, self.plugged_in, self.root.read_bytes())

    def token_of(self, account: str, pod: str = "") -> Path:
        """A file with a token of an account in the namespace, as the kubelet mounts it: for `pod`, if it is named."""
        its = ("-n", self.namespace, "--audience=istio-ca")
        bound = (f"--bound-object-name={pod}", "--bound-object-kind=Pod") if pod else ()
        path = self._folder / f"token-{pod or account}"
        path.write_text(kubectl(f"--kubeconfig={self._admin}", "create", "token", account, *its, *bound))
        return path

    def server(self) -> DiscoveryServer:
        """What a ztunnel of the namespace needs to call it."""
        about = Node(id=f"ztunnel~1.1.1.1~test.{self.namespace}~{self.namespace}.svc.cluster.local")
        about.metadata.update({"NAME": "test", "NAMESPACE": self.namespace, "CLUSTER_ID": "Kubernetes"})
        return DiscoveryServer(self.address, self.root, self.token, "Kubernetes", about)

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        command = [
            "nice", "-n", "19", str(tools.BIN / "pilot-discovery"), "discovery",
            f"--kubeconfig={self._kubeconfig}", f"--meshConfig={self._folder / 'mesh.yaml'}", "--clusterID=Kubernetes",
            f"--tlsCertFile={self._chain}", f"--tlsKeyFile={self._key}", f"--caCertFile={self.root}",
            *(f"--{name}=127.0.0.1:{port}" for name, port in self._ports.items()),
            "--httpsAddr=", "--ctrlz_port=0",
        ]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "PILOT_ENABLE_AMBIENT": "true"}
        environment |= {"POD_NAME": "istiod", "POD_NAMESPACE": self.namespace, "CLUSTER_ID": "Kubernetes"}
        environment |= {"ROOT_CA_DIR": str(self.plugged_in), "ENABLE_CA_SERVER": str(self.is_authority).lower()}
        environment |= {"CA_TRUSTED_NODE_ACCOUNTS": f"{self.namespace}/ztunnel"}
        environment |= dict.fromkeys(self._off, "false")
        with (self._folder / "istiod.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, f"istiod has ended; see {self._folder}/istiod.log"
            assert time.monotonic() < deadline, f"istiod is not ready; see {self._folder}/istiod.log"
            time.sleep(0.3)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.debugging}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def plug_in(pki: MeshPki, folder: Path, roots: bytes) -> None:
    """Writes an authority below the root, in the files that istiod looks for instead of making a root of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "istiod")])
    chain = pki.sign_authority(name, key.public_key())
    folder.mkdir(exist_ok=True)
    (folder / "ca-cert.pem").write_bytes(chain)
    (folder / "ca-key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "cert-chain.pem").write_bytes(chain)
    (folder / "root-cert.pem").write_bytes(roots)


def crds(*names: str) -> list[dict[str, object]]:
    """The CRDs of Istio with these names, from the module that istiod is built of."""
    folder = tools.module_folder("istio", "istio.io/istio")
    text = (folder / "manifests" / "charts" / "base" / "files" / "crd-all.gen.yaml").read_text()
    return [it for it in yaml.safe_load_all(text) if it and it["metadata"]["name"] in names]
