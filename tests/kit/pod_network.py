"""Pods with network namespaces of their own, joined by a bridge in that of their machine. Needs root."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from l4.net.network import Network

needs_namespaces = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

GATEWAY = "10.99.0.254"

_containers = count(1)

_SERVER = """
import socketserver, sys

class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(self.client_address[0].encode() + b" said " + self.request.recv(65536))

socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.request_queue_size = 128
with socketserver.ThreadingTCPServer((sys.argv[1], int(sys.argv[2])), Answer) as server:
    print("ready", flush=True)
    server.serve_forever()
"""

_CLIENT = """
import socket, sys

with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as sock:
    sock.sendall(sys.stdin.read().encode())
    sys.stdout.write(sock.makefile().read())
"""


@dataclass(frozen=True)
class PodNetwork:
    """One pod's namespace, and that of its machine.

    `container` is the ID that its process's control group names, below `proc`.
    """

    network: Network
    machine: Network
    ip: str
    container: str
    proc: Path

    def ask(self, ip: str, port: int, text: str) -> str:
        """Return the answer of a server to a client in the pod. Blocks. Raises CommandFailed."""
        return ask(self.network, ip, port, text)

    @contextmanager
    def caller(self, ip: str, port: int) -> Iterator[subprocess.Popen[str]]:
        """A client in the pod that connects, and says what it is given once its input ends."""
        with self.network.entered():
            command = [sys.executable, "-c", _CLIENT, ip, str(port)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with process:
            try:
                yield process
            finally:
                process.kill()

    def connections(self, port: int) -> list[str]:
        """Return the peers' addresses of the pod's established connections to a local port."""
        table = self.network.run(["ss", "-Htn", "state", "established", f"sport = :{port}"])
        return [line.split()[3].rpartition(":")[0] for line in table.splitlines()]

    @contextmanager
    def server(self, port: int) -> Iterator[None]:
        """An application that tells clients their address and what they said."""
        with self.network.entered():
            command = [sys.executable, "-c", _SERVER, self.ip, str(port)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                yield
            finally:
                process.kill()


def ask(network: Network, ip: str, port: int, text: str) -> str:
    """Return the answer of a server to a client in a namespace. Blocks. Raises CommandFailed."""
    return network.run([sys.executable, "-c", _CLIENT, ip, str(port)], text)


@contextmanager
def pod_networks(*ips: str) -> Iterator[list[PodNetwork]]:
    """Yield a pod for each address; together they are one network of /24, in which the machine has GATEWAY."""
    with TemporaryDirectory() as folder, namespace() as (machine, _):
        machine.run(["ip", "link", "add", "bridge", "type", "bridge"])
        machine.run(["ip", "address", "add", f"{GATEWAY}/24", "dev", "bridge"])
        machine.run(["ip", "link", "set", "bridge", "up"])
        yield from _joined(machine, Path(folder), list(ips), [])


def _joined(machine: Network, proc: Path, ips: list[str], pods: list[PodNetwork]) -> Iterator[list[PodNetwork]]:
    if not ips:
        yield pods
        return
    ip, *rest = ips
    with namespace() as (network, process):
        port = f"port{len(pods)}"
        machine.run(["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(process)])
        machine.run(["ip", "link", "set", port, "master", "bridge", "up"])
        network.run(["ip", "address", "add", f"{ip}/24", "dev", "eth0"])
        for device in ("lo", "eth0"):
            network.run(["ip", "link", "set", device, "up"])
        network.run(["ip", "route", "add", "default", "via", GATEWAY])
        container = f"{next(_containers):064x}"
        seen = proc / str(process)
        (seen / "ns").mkdir(parents=True)
        (seen / "ns/net").symlink_to(f"/proc/{process}/ns/net")
        (seen / "cgroup").write_text(f"0::/k8s.io/{container}\n")
        yield from _joined(machine, proc, rest, [*pods, PodNetwork(network, machine, ip, container, proc)])


@contextmanager
def namespace() -> Iterator[tuple[Network, int]]:
    """Yield a new network namespace, and a process that lives in it."""
    command = ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            network = Network(os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            yield network, process.pid
            network.close()
        finally:
            process.kill()
