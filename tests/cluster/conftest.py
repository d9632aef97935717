"""A test that fails in the cluster shows what the mesh said meanwhile."""

import json
from collections.abc import Iterator

import pytest

from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.kubectl import KubectlFailed, kubectl
from tests.cluster.mesh import NAMESPACE

_LINES = 40
_WAYPOINTS = "gateway.networking.k8s.io/gateway-name"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed and item.get_closest_marker("cluster") and KUBECONFIG.exists():
        report.sections.extend(_said())
    return report


def _said() -> Iterator[tuple[str, str]]:
    """What tells why: pods that aren't ready, warnings, and the last lines of each program of the mesh."""
    try:
        pods = json.loads(kubectl("get", "pods", "-A", "-o", "json", "--request-timeout=10s"))["items"]
        yield "pods", kubectl("get", "pods", "-A", "-o", "wide")
        warnings = kubectl("get", "events", "-A", "--field-selector=type=Warning", "--sort-by=.lastTimestamp")
        yield "warnings", "\n".join(warnings.splitlines()[-_LINES:])
        for pod in pods:
            its = pod["metadata"]
            if its["namespace"] == NAMESPACE or _WAYPOINTS in its.get("labels", {}):
                yield f"log of {its['namespace']}/{its['name']}", _log(its["namespace"], its["name"])
    except KubectlFailed as error:
        yield "the cluster cannot be asked", str(error)


def _log(namespace: str, pod: str) -> str:
    try:
        return kubectl("logs", "-n", namespace, pod, "--all-containers", f"--tail={_LINES}")
    except KubectlFailed as error:
        return str(error)
