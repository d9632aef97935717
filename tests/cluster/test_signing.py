"""Who gets which certificate from the authority in the cluster, by real tokens of service accounts."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.kubectl import kubectl
from tests.cluster.machine import NODES
from tests.cluster.mesh import NAMESPACE as SYSTEM
from tests.cluster.tools import BIN

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAMESPACE = "signing-test"
HERE, THERE = (it.name for it in NODES)
NEAR, FAR = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/near", f"spiffe://cluster.local/ns/{NAMESPACE}/sa/far"
ZTUNNEL = f"spiffe://cluster.local/ns/{SYSTEM}/sa/ztunnel"
CLIENT = """
import asyncio, json, sys
from pathlib import Path
import pywaypoint
sys.path.insert(0, str(Path(pywaypoint.__file__).parent))
from cryptography import x509
from l4.identity.authority import AuthorityError, certificate_request
from l4.identity.istio_ca import IstioCa
from policies.attributes import Identity

async def main(token, wanted, impersonates):
    Path("/tmp/token").write_text(token)
    ca = IstioCa("pywaypoint-ca.pywaypoint-system.svc:15012", root_path=Path("/roots/root-cert.pem"),
                 token_path=Path("/tmp/token"), cluster_id="Kubernetes", impersonates=impersonates)
    identity = Identity.parse(wanted)
    try:
        signed = await ca.sign(identity, certificate_request(identity)[1])
    except AuthorityError as error:
        return {"refused": str(error)}
    finally:
        await ca.close()
    leaf = x509.load_pem_x509_certificates(signed.chain_pem)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {"signed": names.get_values_for_type(x509.UniformResourceIdentifier)}

print(json.dumps(asyncio.run(main(**json.load(sys.stdin)))))
"""
"""What every workload can do: the client of the image, in a pod of its own."""


def pod(name: str, node: str) -> list[dict[str, Any]]:
    """A pod that waits, with a service account of its name."""
    metadata = {"name": name, "namespace": NAMESPACE}
    image = kubectl("get", "daemonset", "ztunnel", "-n", SYSTEM, "-o", "jsonpath={..image}").strip()
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "volumeMounts": [{"name": "roots", "mountPath": "/roots"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "serviceAccountName": name,
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "roots", "configMap": {"name": "istio-ca-root-cert"}}, {"name": "tmp", "emptyDir": {}}],
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
    ]


@pytest.fixture(scope="module", autouse=True)
def pods() -> Iterator[None]:
    """One on each node."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")
    kubectl("create", "namespace", NAMESPACE)
    items = [*pod("near", HERE), *pod("far", THERE)]
    try:
        kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": items})
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod", "--all", "--timeout=120s")
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def ztunnel_of(node: str) -> str:
    selector = ("-l", "app=ztunnel", f"--field-selector=spec.nodeName={node},status.phase=Running")
    return kubectl("get", "pods", "-n", SYSTEM, *selector, "-o", "jsonpath={.items[0].metadata.name}")


def token(namespace: str, account: str, bound: str = "", audience: str = "istio-ca") -> str:
    """`bound` is the pod that the token is bound to."""
    binding = ("--bound-object-kind=Pod", f"--bound-object-name={bound}") if bound else ()
    return kubectl("create", "token", account, "-n", namespace, f"--audience={audience}", *binding).strip()


def asked(given: str, wanted: str, *, impersonates: bool = False) -> dict[str, Any]:
    """The authority's answer: `signed` with the names, or `refused` with a sentence."""
    command = [str(BIN / "kubectl"), f"--kubeconfig={KUBECONFIG}", "exec", "-i", "-n", NAMESPACE, "near", "--"]
    question = json.dumps({"token": given, "wanted": wanted, "impersonates": impersonates})
    done = subprocess.run(
        [*command, "python3", "-c", CLIENT], input=question, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_workload_gets_its_own_certificate_and_nobody_elses() -> None:
    own = token(NAMESPACE, "near", "near")

    assert asked(own, NEAR) == {"signed": [NEAR]}
    assert asked(own, FAR) == {"signed": [NEAR]}  # whatever name its request has
    assert "does not sign for the caller" in asked(own, FAR, impersonates=True)["refused"]
    assert "does not sign for the caller" in asked(own, ZTUNNEL, impersonates=True)["refused"]


def test_a_ztunnel_gets_the_certificates_of_its_nodes_pods_only() -> None:
    name = ztunnel_of(HERE)
    its = token(SYSTEM, "ztunnel", name)

    assert asked(its, NEAR, impersonates=True) == {"signed": [NEAR]}
    assert asked(its, ZTUNNEL) == {"signed": [ZTUNNEL]}
    assert "does not sign for the caller" in asked(its, FAR, impersonates=True)["refused"]
    elsewhere = token(SYSTEM, "ztunnel", ztunnel_of(THERE))
    assert asked(elsewhere, FAR, impersonates=True) == {"signed": [FAR]}
    assert "does not sign for the caller" in asked(elsewhere, NEAR, impersonates=True)["refused"]


def test_a_ztunnels_token_that_no_pod_has_is_good_for_nobody_else() -> None:
    assert "does not sign for the caller" in asked(token(SYSTEM, "ztunnel"), NEAR, impersonates=True)["refused"]


@pytest.mark.parametrize("audience", ["https://kubernetes.default.svc", "vault"])
def test_a_token_for_somebody_else_gets_nothing(audience: str) -> None:
    assert "UNAUTHENTICATED" in asked(token(NAMESPACE, "near", "near", audience), NEAR)["refused"]


def test_what_is_no_token_gets_nothing() -> None:
    assert "UNAUTHENTICATED" in asked("e30.e30.e30", NEAR)["refused"]
