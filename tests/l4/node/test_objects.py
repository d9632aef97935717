"""Which pods of a node are to be redirected, by their objects."""

from pathlib import Path

from l4.config.documents import FileOrigin, Problem
from l4.config.doubts import Doubt
from l4.config.folder import FolderSource
from l4.config.intake import Intake
from l4.config.source import Changes, Documents
from l4.node.agent import NodePod
from l4.node.objects import KINDS, pods_of
from tests.kit.aio import run

_NAMESPACES = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
"""
_POD = """
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, uid: uid-{name}, labels: {{{labels}}},
    annotations: {{{annotations}}}}}
spec: {{nodeName: {node}, serviceAccountName: cart, hostNetwork: {host}}}
status: {{phase: {phase}, podIP: {ip}, podIPs: [{{ip: {ip}}}, {{ip: "fd00::7"}}],
    containerStatuses: [{{containerID: "containerd://abc"}}, {{}}]}}
"""
_USUAL = {
    "namespace": "shop",
    "labels": "",
    "annotations": "",
    "node": "here",
    "host": "false",
    "phase": "Running",
    "ip": "10.0.0.7",
}


def both(folder: Path, **changed: str) -> tuple[list[NodePod], list[NodePod]]:
    (folder / "pods.yaml").write_text(_NAMESPACES + _POD.format(name="cart", **(_USUAL | changed)))
    taken = Intake(KINDS).take(run(FolderSource([folder]).load()))
    assert not taken.problems
    found = pods_of(taken, "here")
    assert found is not None
    return found


def redirected(folder: Path, **changed: str) -> list[NodePod]:
    wanted, former = both(folder, **changed)
    assert former == []
    return wanted


def test_a_pod_of_a_labelled_namespace_is_redirected(tmp_path: Path) -> None:
    ips = ("10.0.0.7", "fd00::7")
    assert redirected(tmp_path) == [NodePod("uid-cart", "cart", "shop", "cart", ips, ("containerd://abc",))]


def test_pods_of_other_nodes_and_pods_that_do_not_ask_for_it_are_not(tmp_path: Path) -> None:
    assert redirected(tmp_path, node="there") == []
    assert redirected(tmp_path, namespace="other") == []
    assert redirected(tmp_path, labels="istio.io/dataplane-mode: none") == []
    assert redirected(tmp_path, host="true") == []
    assert redirected(tmp_path, phase="Succeeded") == []
    assert redirected(tmp_path, ip='""') == []
    assert len(redirected(tmp_path, namespace="other", labels="istio.io/dataplane-mode: ambient")) == 1


def test_a_pod_that_an_earlier_agent_redirected_is_told_apart(tmp_path: Path) -> None:
    annotations = "ambient.istio.io/redirection: enabled"
    wanted, former = both(tmp_path, labels="istio.io/dataplane-mode: none", annotations=annotations)
    assert (len(wanted), len(former)) == (0, 1)
    assert len(redirected(tmp_path, annotations=annotations)) == 1


def test_nothing_is_decided_until_namespaces_and_pods_were_read_once(tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text(_POD.format(name="cart", **_USUAL))
    pods = run(FolderSource([tmp_path]).load()).documents
    problem = Problem(FileOrigin("namespaces.yaml"), "Namespace *", "", "cannot be listed")
    intake = Intake(KINDS)

    unread = intake.take(Documents(pods, (), (Doubt(problem, False, None),)))
    read = intake.take(Documents(pods))
    kept = intake.take(Changes((), (), (), (Doubt(problem, True, None),)))

    assert pods_of(unread, "here") is None
    assert pods_of(read, "here") == pods_of(kept, "here") == ([], [])
