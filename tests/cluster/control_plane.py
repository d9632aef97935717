"""etcd, API server, controller manager and scheduler, in the network namespace of the first node."""

import os
import signal
import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.cluster.machine import NODES, STATE
from tests.cluster.pki import Pki
from tests.cluster.tools import BIN

HOME = NODES[0]
SERVER = f"https://{HOME.ip}:6443"
KUBECONFIG = STATE / "kubeconfig"
SERVICES, DNS_IP = "10.96.0.0/16", "10.96.0.10"
_ETCD = "http://127.0.0.1:2379"
_READY_SECONDS = 120.0


def start(pki: Pki) -> None:
    """Starts the control plane and waits until the API server is ready. KUBECONFIG is the administrator's."""
    write_kubeconfig(KUBECONFIG, pki, "admin", "admin", ["system:masters"])
    HOME.start(
        "etcd", "etcd", "--data-dir", str(HOME.folder / "etcd"), "--unsafe-no-fsync",
        "--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD, "--listen-peer-urls", "http://127.0.0.1:2380",
    )  # fmt: skip
    start_api_server(pki)
    wait_until_ready(pki.folder)
    _start_controller("kube-scheduler", pki)
    _start_controller(
        "kube-controller-manager", pki,
        f"--service-account-private-key-file={pki.folder / 'sa.key'}", f"--root-ca-file={pki.authority}",
        "--use-service-account-credentials=true", "--horizontal-pod-autoscaler-sync-period=5s",
    )  # fmt: skip


def _start_controller(name: str, pki: Pki, *flags: str) -> None:
    kubeconfig = write_kubeconfig(HOME.folder / f"{name}.yaml", pki, name, f"system:{name}")
    HOME.start(name, str(BIN / name), f"--kubeconfig={kubeconfig}", "--leader-elect=false", *flags)


def start_api_server(pki: Pki) -> None:
    server = pki.issue(
        "apiserver", "kube-apiserver", hosts=[HOME.ip, "10.96.0.1", "127.0.0.1", "kubernetes.default.svc"]
    )
    kubelet = pki.issue("apiserver-kubelet", "kube-apiserver", ["system:masters"])
    aggregator = pki.issue("aggregator", "aggregator")
    keys = {"public": pki.folder / "sa.pub", "private": pki.folder / "sa.key"}
    if not keys["private"].exists():
        pki.service_account_keys()
    HOME.start(
        "kube-apiserver", str(BIN / "kube-apiserver"), f"--etcd-servers={_ETCD}", f"--advertise-address={HOME.ip}",
        f"--service-cluster-ip-range={SERVICES}", "--authorization-mode=Node,RBAC", "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction", f"--client-ca-file={pki.authority}",
        f"--tls-cert-file={server[0]}", f"--tls-private-key-file={server[1]}",
        f"--kubelet-client-certificate={kubelet[0]}", f"--kubelet-client-key={kubelet[1]}",
        f"--kubelet-certificate-authority={pki.authority}", "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={keys['public']}", f"--service-account-signing-key-file={keys['private']}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--requestheader-client-ca-file={pki.authority}", "--requestheader-allowed-names=aggregator",
        "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={aggregator[0]}", f"--proxy-client-key-file={aggregator[1]}",
    )  # fmt: skip


@contextmanager
def api_server_away() -> Iterator[None]:
    """Ends the API server, and starts it again after the block.

    So do controller manager and scheduler: in a cluster of several control planes they end when they can't renew their
    Leases. A controller manager that lived on would find all nodes silent, and make all their pods unready.
    """
    commands = {}
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        process = int((HOME.folder / f"{name}.pid").read_text())
        commands[name] = Path(f"/proc/{process}/cmdline").read_text().rstrip("\0").split("\0")
        os.kill(process, signal.SIGKILL)
    try:
        yield
    finally:
        HOME.start("kube-apiserver", *commands.pop("kube-apiserver"))
        wait_until_ready(STATE / "pki")
        for name, command in commands.items():
            HOME.start(name, *command)


def wait_until_ready(pki: Path) -> None:
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    deadline, said = time.monotonic() + _READY_SECONDS, ""
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{SERVER}/readyz", timeout=2, context=context) as answer:
                said = answer.read().decode()
                if said == "ok":
                    return
        except OSError as error:
            said = str(error)
        time.sleep(0.25)
    raise SystemExit(
        f"The API server is not ready after {_READY_SECONDS:.0f} s: {said}. Its log: {HOME.folder}/kube-apiserver.log"
    )


def write_kubeconfig(path: Path, pki: Pki, file: str, user: str, groups: list[str] | None = None) -> Path:
    chain, key = pki.issue(file, user, groups or ())
    path.parent.mkdir(parents=True, exist_ok=True)
    cluster = {"server": SERVER, "certificate-authority": str(pki.authority)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": user, "user": {"client-certificate": str(chain), "client-key": str(key)}}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": user}}],
        "current-context": "cluster",
    }
    path.write_text(yaml.safe_dump(content))
    return path
