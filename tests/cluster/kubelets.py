"""containerd, kubelet and kube-proxy of one node."""

import json
import time
from pathlib import Path

import yaml

from tests.cluster.control_plane import DNS_IP, write_kubeconfig
from tests.cluster.machine import NODES, Node
from tests.cluster.pki import Pki
from tests.cluster.tools import BIN, run

SANDBOX = "registry.k8s.io/pause:3.10"
_SOCKET_SECONDS = 30.0

_CONTAINERD = """
version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{sandbox}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni", "{folder}/cni-bin"]
    conf_dir = "{folder}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = "/usr/sbin/runc"
"""


def start(node: Node, pki: Pki) -> None:
    node.folder.mkdir(parents=True, exist_ok=True)
    _start_containerd(node)
    _start_kubelet(node, pki)
    kubeconfig = write_kubeconfig(node.folder / "kube-proxy.yaml", pki, f"{node.name}-proxy", "system:kube-proxy")
    node.start(
        "kube-proxy", str(BIN / "kube-proxy"), f"--kubeconfig={kubeconfig}", f"--hostname-override={node.name}",
        "--cluster-cidr=10.244.0.0/16", "--proxy-mode=nftables", "--conntrack-max-per-core=0",
        "--nodeport-addresses=primary",
    )  # fmt: skip


def import_image(archive: Path) -> None:
    """Makes an image known to both nodes. Pods name it with `imagePullPolicy: Never`."""
    for node in NODES:
        run(
            [
                str(BIN / "ctr"),
                "-a",
                str(node.folder / "containerd.sock"),
                "-n",
                "k8s.io",
                "images",
                "import",
                str(archive),
            ]
        )


def _start_containerd(node: Node) -> None:
    for folder in ("cni", "cni-bin"):
        (node.folder / folder).mkdir(exist_ok=True)
    ranges = {
        "type": "host-local",
        # In one folder for all nodes, the address of the pod that ended last is given to the next one, while its
        # neighbours still have the old link address: they can't reach it for ten seconds.
        "dataDir": str(node.folder / "addresses"),
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": ranges,
    }
    port_map = {"type": "portmap", "capabilities": {"portMappings": True}}
    network = {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, port_map]}
    (node.folder / "cni" / "10-pods.conflist").write_text(json.dumps(network))
    config = node.folder / "containerd.toml"
    config.write_text(_CONTAINERD.format(folder=node.folder, sandbox=SANDBOX))
    node.start("containerd", str(BIN / "containerd"), "--config", str(config))
    deadline = time.monotonic() + _SOCKET_SECONDS
    while not (node.folder / "containerd.sock").exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"containerd of {node.name} does not start. Its log: {node.folder}/containerd.log")
        time.sleep(0.1)


def _start_kubelet(node: Node, pki: Pki) -> None:
    serving = pki.issue(f"{node.name}-serving", f"system:node:{node.name}", ["system:nodes"], [node.ip, node.name])
    kubeconfig = write_kubeconfig(
        node.folder / "kubelet-client.yaml", pki, node.name, f"system:node:{node.name}", ["system:nodes"]
    )
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "authentication": {"x509": {"clientCAFile": str(pki.authority)}, "webhook": {"enabled": True}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving[0]),
        "tlsPrivateKeyFile": str(serving[1]),
        "containerRuntimeEndpoint": f"unix://{node.folder}/containerd.sock",
        "evictionHard": {"memory.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "podLogsDir": str(node.folder / "pod-logs"),
        "nodeStatusUpdateFrequency": "5s",
    }
    (node.folder / "kubelet.yaml").write_text(yaml.safe_dump(config))
    (node.folder / "pod-logs").mkdir(exist_ok=True)
    node.start(
        "kubelet", str(BIN / "kubelet"), f"--config={node.folder}/kubelet.yaml", f"--kubeconfig={kubeconfig}",
        f"--root-dir={node.folder}/kubelet", f"--cert-dir={node.folder}/kubelet-certificates",
        f"--hostname-override={node.name}", f"--node-ip={node.ip}",
    )  # fmt: skip
