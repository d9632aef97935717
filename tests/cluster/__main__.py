"""`python -m tests.cluster check`, `up`, `image`, `install`, `istio`, `conformance`, `scale` and `down`."""

import os
import shutil
import sys
import time
from pathlib import Path

from tests.cluster import conformance, control_plane, images, kubelets, mesh, scale, tools
from tests.cluster.kubectl import KubectlFailed, kubectl
from tests.cluster.machine import NODES, STATE, end_all, make_network
from tests.cluster.pki import Pki
from tests.cluster.progress import step

MANIFESTS = Path(__file__).parent / "manifests"
_NODES_SECONDS = 120.0


def check() -> None:
    """Ends with a sentence if no cluster can be made here."""
    if sentence := tools.lack():
        raise SystemExit(sentence)


def up() -> None:
    tools.install()
    down()
    STATE.mkdir(parents=True)
    with step("make two nodes' network"):
        make_network()
    pki = Pki(STATE / "pki")
    with step("start the control plane"):
        control_plane.start(pki)
    with step("start containerd, kubelet and kube-proxy of both nodes"):
        for node in NODES:
            kubelets.start(node, pki)
        for reference, program in (
            (kubelets.SANDBOX, "pause"),
            ("coredns:cluster", "coredns"),
        ):
            kubelets.import_image(images.of_program(reference, program, STATE / f"{program}.tar"))
        _wait_for_nodes()
    with step("install the Gateway API"):
        kubectl("apply", "--server-side", "-k", str(tools.gateway_api_crds()))
    with step("start DNS"):
        kubectl("apply", "-f", str(MANIFESTS / "coredns.yaml"))
        kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
    print(f"The cluster is up: export KUBECONFIG={control_plane.KUBECONFIG}")


def image() -> None:
    """Builds the images of this checkout, and gives them to the nodes."""
    with step("build the images of this checkout"):
        for archive in images.of_checkout(STATE, twin=os.environ.get("TWIN", "1") == "1"):
            kubelets.import_image(archive)


def write_conformance() -> None:
    """Runs the Gateway API's conformance suite, and keeps its report in docs/conformance."""
    tools.install()
    outcome = conformance.run(conformance.REPORT)
    for name, result in sorted(outcome.tests.items()):
        if name.startswith("Mesh"):
            print(f"{result} {name}")
    if "FAIL" in outcome.tests.values() or not outcome.tests:
        raise SystemExit(f"{outcome.failures()}\nAll that the suite said: {conformance.LOG}")


def install() -> None:
    with step("install the chart of this checkout"):
        mesh.install()


def istio() -> None:
    """Builds istiod and istioctl, which only some tests need."""
    tools.install("istio")


def down() -> None:
    if STATE.exists():
        with step("end the cluster that was here"):
            end_all()
            shutil.rmtree(STATE)


def _wait_for_nodes() -> None:
    deadline = time.monotonic() + _NODES_SECONDS
    while True:
        try:
            kubectl("wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={_NODES_SECONDS:.0f}s")
            return
        except KubectlFailed as error:
            if "no matching resources found" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


if __name__ == "__main__":
    commands = {
        "check": check,
        "up": up,
        "image": image,
        "install": install,
        "istio": istio,
        "conformance": write_conformance,
        "scale": scale.measure,
        "down": down,
    }
    commands[sys.argv[1]]()
