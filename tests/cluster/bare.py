"""An API server of a test's own: real, with RBAC, and with nothing in it. No node, no controller, no CRD.

What would disturb everybody in the cluster is tested against it: CRDs that are missing, a server that is away.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.kubectl import KubectlFailed, kubectl
from tests.cluster.pki import Pki
from tests.cluster.programs import free_port
from tests.cluster.tools import BIN, gateway_api_crds
from tests.cluster.waiting import until

_SECONDS = 120.0


class BareServer:
    """`kubeconfig` is its administrator's."""

    def __init__(self, url: str, kubeconfig: Path) -> None:
        self.url = url
        self.kubeconfig = kubeconfig

    def kubectl(self, *arguments: str, given: object = None) -> str:
        """Raises KubectlFailed."""
        return kubectl(f"--kubeconfig={self.kubeconfig}", *arguments, given=given)

    def apply(self, *objects: object) -> None:
        self.kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def install_gateway_api(self) -> None:
        self.kubectl("apply", "--server-side", "-k", str(gateway_api_crds()))
        self.wait_for_crds()

    def wait_for_crds(self) -> None:
        """Waits until all kinds are served."""

        def are_served() -> bool:
            try:
                self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
            except KubectlFailed as error:
                if "conditions accessor error" not in str(error):  # kubectl's, for a CRD without any status yet
                    raise
                return False
            return True

        until(are_served)

    def account(self, name: str, rules: list[dict[str, Any]]) -> Path:
        """A kubeconfig that may do this and no more. The ClusterRole has the same name, and so has the namespace."""
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": name}
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": name}},
            {**rbac, "kind": "ClusterRole", "rules": rules},
            {**rbac, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]},
        )
        content = yaml.safe_load(self.kubeconfig.read_text())
        token = self.kubectl("create", "token", name, "-n", name, "--duration=1h").strip()
        content["users"][0]["user"] = {"token": token}
        path = self.kubeconfig.with_name(name)
        path.write_text(yaml.safe_dump(content))
        return path


@contextmanager
def bare_server(folder: Path) -> Iterator[BareServer]:
    """Starts it with an etcd of its own; both end with the block."""
    pki = Pki(folder / "pki")
    port, etcd_port, peer_port = free_port(), free_port(), free_port()
    etcd, peers = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
    chain, key = pki.issue("server", "kube-apiserver", hosts=["127.0.0.1"])
    public, private = pki.service_account_keys()
    server = BareServer(f"https://127.0.0.1:{port}", _kubeconfig(pki, port, folder / "admin.yaml"))
    commands = [
        [
            "etcd", f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync", f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}",
        ],
        [
            str(BIN / "kube-apiserver"), f"--etcd-servers={etcd}", "--bind-address=127.0.0.1",
            f"--secure-port={port}", "--advertise-address=127.0.0.1", "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.97.0.0/16", f"--client-ca-file={pki.authority}",
            f"--tls-cert-file={chain}", f"--tls-private-key-file={key}",
            f"--service-account-key-file={public}", f"--service-account-signing-key-file={private}",
            "--service-account-issuer=https://bare.test", "--endpoint-reconciler-type=none",
        ],
    ]  # fmt: skip
    with (folder / "server.log").open("w") as log:
        processes = [subprocess.Popen(it, stdout=log, stderr=log, cwd=folder) for it in commands]
    try:
        _wait(server, processes[1], folder / "server.log")
        yield server
    finally:
        for it in reversed(processes):
            it.kill()
            it.wait(30)
        shutil.rmtree(folder / "etcd", ignore_errors=True)


def _wait(server: BareServer, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline, said = time.monotonic() + _SECONDS, ""
    while said != "ok":
        has_failed = process.poll() is not None or time.monotonic() > deadline
        assert not has_failed, f"{said}\n{log.read_text()[-3000:]}"
        try:
            said = server.kubectl("get", "--raw", "/readyz")
        except KubectlFailed as error:
            said = str(error)
            time.sleep(0.3)


def _kubeconfig(pki: Pki, port: int, path: Path) -> Path:
    chain, key = pki.issue("admin", "admin", ["system:masters"])
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(pki.authority)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bare", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"client-certificate": str(chain), "client-key": str(key)}}],
        "contexts": [{"name": "bare", "context": {"cluster": "bare", "user": "admin"}}],
        "current-context": "bare",
    }
    path.write_text(yaml.safe_dump(content))
    return path
