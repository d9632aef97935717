"""Pods' network namespaces are found by the control groups of their processes."""

import os
from pathlib import Path

import pytest

from l4.node.namespaces import find
from tests.kit.pod_network import namespace, needs_namespaces

pytestmark = needs_namespaces

UID = "0f3b6d5e-1c1f-4f3e-9a53-6d3f5f1c2b7a"
CONTAINER = "ab" * 32


def process(proc: Path, number: int, cgroup: str, runs_as: int | str) -> None:
    (proc / f"{number}/ns").mkdir(parents=True)
    (proc / f"{number}/cgroup").write_text(cgroup)
    (proc / f"{number}/ns/net").symlink_to(f"/proc/{runs_as}/ns/net")


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/k8s.io/{CONTAINER}\n",
        f"1:cpu:/kubepods/burstable/pod{UID}/{'cd' * 32}\n0::/\n",
        f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{'cd' * 32}.scope\n",
        f"0::/system.slice/cri-containerd-{CONTAINER}.scope\n",
    ],
)
def test_a_pod_is_found_by_its_container_or_by_its_uid(tmp_path: Path, cgroup: str) -> None:
    with namespace() as (network, runs), namespace() as (_, other):
        process(tmp_path, 5, "0::/k8s.io/" + "ef" * 32, other)
        process(tmp_path, 7, cgroup, runs)
        (tmp_path / "9").mkdir()  # a process that has just ended
        (tmp_path / "version").write_text("no process")
        found = find({UID: [f"containerd://{CONTAINER}"]}, tmp_path)
        assert found == {UID: network}
        found[UID].close()


def test_without_a_process_or_in_a_network_of_the_node_a_pod_is_not_found(tmp_path: Path) -> None:
    with namespace() as (_, machine):
        process(tmp_path, 1, "0::/init.scope", machine)
        process(tmp_path, 5, f"0::/k8s.io/{CONTAINER}", machine)
        process(tmp_path, 6, f"0::/k8s.io/{CONTAINER}", "self")
        before = len(os.listdir("/proc/self/fd"))
        assert find({UID: [f"containerd://{CONTAINER}"], "gone": []}, tmp_path) == {}
        assert len(os.listdir("/proc/self/fd")) == before
