"""The cluster's own kubectl, as its administrator."""

import json
import subprocess

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
