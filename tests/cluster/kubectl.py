"""The cluster's own kubectl, as its administrator."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.tools import BIN

_SECONDS = 240


class KubectlFailed(Exception):
    """kubectl ended with an error; the message is what it wrote."""


def kubectl(*arguments: str, given: object = None) -> str:
    """Runs kubectl with `given` as JSON on its input, and gives its output. Raises KubectlFailed."""
    command = [str(BIN / "kubectl"), f"--kubeconfig={KUBECONFIG}", *arguments]
    text = None if given is None else json.dumps(given)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise KubectlFailed(f"kubectl {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


@contextmanager
def forwarded(namespace: str, service: str, port: int) -> Iterator[int]:
    """A port of this machine's loopback that leads to that of a Service."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        here = int(free.getsockname()[1])
    command = [str(BIN / "kubectl"), f"--kubeconfig={KUBECONFIG}", "port-forward", "-n", namespace]
    with subprocess.Popen([*command, f"service/{service}", f"{here}:{port}"], stdout=subprocess.PIPE) as forwarding:
        assert forwarding.stdout is not None
        forwarding.stdout.readline()
        try:
            yield here
        finally:
            forwarding.terminate()
