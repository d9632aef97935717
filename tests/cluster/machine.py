"""Nodes are network namespaces on one bridge; what runs in them is noted in files, so that another command can end it.

`nsenter` enters a namespace, not `ip netns exec`: that mounts a new `/sys`, in which the kubelet finds no cgroups.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.tools import BIN, CACHE, run

STATE = CACHE / "state"
BRIDGE, HOST_IP = "pw-cluster", "10.88.0.1"
_END_SECONDS = 20.0
_STARTED: list["subprocess.Popen[bytes]"] = []
"""They outlive this process. Python would warn of one that is forgotten while it runs."""


@dataclass(frozen=True, slots=True)
class Node:
    """`ip` on the bridge; pods have addresses of `pods`, a /24."""

    name: str
    ip: str
    pods: str

    @property
    def folder(self) -> Path:
        return STATE / self.name

    @property
    def port(self) -> str:
        """The node's port of the bridge: what passes between nodes passes here."""
        return f"pw-{self.name}"

    def enter(self, *command: str) -> list[str]:
        return ["nsenter", f"--net=/var/run/netns/{self.name}", *command]

    def start(self, name: str, *command: str) -> None:
        """Starts a program in the node. Its output goes to `NAME.log`, its process group is in `NAME.pid`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"PATH": f"{BIN}:/usr/sbin:/sbin:{os.environ['PATH']}"}
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.enter(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,
            )  # fmt: skip
        (self.folder / f"{name}.pid").write_text(str(process.pid))
        _STARTED.append(process)


NODES = (Node("node-a", "10.88.0.2", "10.244.0.0/24"), Node("node-b", "10.88.0.3", "10.244.1.0/24"))
"""The control plane is on the first."""


def make_network() -> None:
    ip = ("ip",)
    run([*ip, "link", "add", BRIDGE, "type", "bridge"])
    run([*ip, "address", "add", f"{HOST_IP}/24", "dev", BRIDGE])
    run([*ip, "link", "set", BRIDGE, "up"])
    for node in NODES:
        run([*ip, "netns", "add", node.name])
        run([*ip, "link", "add", node.port, "type", "veth", "peer", "name", "eth0", "netns", node.name])
        run([*ip, "link", "set", node.port, "master", BRIDGE, "up"])
        for command in (
            "ip link set lo up",
            f"ip address add {node.ip}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {HOST_IP}",
            *(f"ip route add {it.pods} via {it.ip}" for it in NODES if it is not node),
            "sysctl -qw net.ipv4.ip_forward=1",
        ):
            run(node.enter(*command.split()))


def end_all() -> None:
    """Ends every process, those of pods too, unmounts what lies under the state folder, and removes the networks."""
    pods = _of_pods()
    networks = _networks_of(pods)
    pids = [int(it.read_text()) for it in STATE.glob("*/*.pid")]
    _end(pids, signal.SIGTERM)
    _end([*_below_state(), *pods], signal.SIGKILL)
    mounts = [it.split()[1] for it in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((it for it in mounts if it.startswith(f"{STATE}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)
    for node in NODES:
        # The kernel ends a namespace later than this says, and its links with it: another cluster could not have them.
        subprocess.run(["ip", "link", "delete", node.port], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", node.name], capture_output=True, check=False)
    for name in networks:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)


def kill_in_pod(name: str) -> None:
    """Kills the programs of a pod that know its name as POD_NAME, by SIGKILL."""
    for process in in_pod(name):
        os.kill(process, signal.SIGKILL)


def in_pod(name: str, argument: str = "") -> Iterator[int]:
    """The processes of a pod that know its name as POD_NAME, and have this argument if one is given."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_its = f"POD_NAME={name}".encode() in (entry / "environ").read_bytes().split(b"\0")
            if is_its and (not argument or argument.encode() in (entry / "cmdline").read_bytes().split(b"\0")):
                yield int(entry.name)


def _of_pods() -> list[int]:
    """The first process of each container, as containerd knows it. Its end is that of the container's others."""
    found = []
    for node in NODES:
        command = [str(BIN / "ctr"), "-a", str(node.folder / "containerd.sock"), "-n", "k8s.io", "tasks", "list"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # the rest of the cluster has to end all the same
            listed = subprocess.run(command, capture_output=True, text=True, timeout=_END_SECONDS, check=False).stdout
            found += [int(line.split()[1]) for line in listed.splitlines()[1:]]
    return [it for it in found if it]


def _networks_of(pods: list[int]) -> list[str]:
    """The names of the pods' network namespaces."""
    own = set()
    for pid in pods:
        with contextlib.suppress(OSError):
            own.add(Path(f"/proc/{pid}/ns/net").stat().st_ino)
    return [it.name for it in Path("/var/run/netns").glob("cni-*") if it.stat().st_ino in own]


def _below_state() -> list[int]:
    """The processes that are still there whose command line names the state folder: shims, above all."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(STATE).encode() in entry.read_bytes() and int(entry.parent.name) != os.getpid():
                found.append(int(entry.parent.name))
    return found


def _end(pids: list[int], how: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
    deadline = time.monotonic() + _END_SECONDS
    while any(_is_alive(it) for it in pids) and time.monotonic() < deadline:
        time.sleep(0.1)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
