"""What an operator and a cluster do to a mesh under load, and that no request fails of it.

SOAK_RATE is how many requests a second there are; each test prints its row of a table with -s.
"""

import base64
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import images, kubelets, mesh
from tests.cluster.control_plane import api_server_away
from tests.cluster.kubectl import kubectl
from tests.cluster.load import Load
from tests.cluster.machine import NODES, STATE, kill_in_pod
from tests.cluster.waiting import until
from waypoint.controller.root import CERTIFICATE, KEY, ROOTS, RootAuthority, utc_now
from waypoint.controller.root_keeper import OWN, POLL_SECONDS

NAMESPACE = "rollouts"
RATE = float(os.environ.get("SOAK_RATE", "300"))
ROLLOUTS = int(os.environ.get("SOAK_ROLLOUTS", "10"))
AWAY_SECONDS = float(os.environ.get("SOAK_AWAY", "60"))
SECONDS = 120.0
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(340 + AWAY_SECONDS)]
NEWS_SECONDS = 1.0
"""Time in which a busy machine tells of a closed connection."""
LEASE = "pywaypoint-controller"
METRICS_SERVER = Path(__file__).parent / "manifests" / "metrics-server.yaml"
LIFE = 60
"""Seconds that certificates are good for while the root is replaced."""
WAYPOINT = "gateway.networking.k8s.io/gateway-name=waypoint"


def pods(namespace: str = NAMESPACE, selector: str = WAYPOINT, *, and_ending: bool = False) -> list[Any]:
    """The pods, without those that are being deleted."""
    found: list[Any] = json.loads(kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    return [it for it in found if and_ending or "deletionTimestamp" not in it["metadata"]]


def rolled_out(what: str, namespace: str = NAMESPACE) -> None:
    kubectl("rollout", "status", "-n", namespace, what, f"--timeout={SECONDS:.0f}s")


def values(pod: Any, metric: str) -> list[float]:
    """The values of all series of a pod's metric."""
    about = pod["metadata"]
    path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}:15020/proxy/metrics"
    lines = [re.split("[{ ]", it) for it in kubectl("get", "--raw", path).splitlines()]
    return [float(it[-1]) for it in lines if it[0] == metric]


def carried(pod: Any) -> float:
    """How many requests a waypoint's pod has counted."""
    return sum(values(pod, "istio_requests_total"))


def restart(what: str, namespace: str = NAMESPACE) -> None:
    """Rolls out new pods, and waits for them."""
    kubectl("rollout", "restart", "-n", namespace, what)
    rolled_out(what, namespace)


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    mesh.install()
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")
    labels = {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"}
    gateway = mesh.waypoint(NAMESPACE, overlay="waypoint")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    try:
        kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": [namespace, gateway]})
        scale(least=2, most=2)
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Programmed", "gateway/waypoint", "--timeout=120s")
        until(lambda: len(pods()) == 2, SECONDS)
        rolled_out("deployment/waypoint")
        made = Load(NAMESPACE, RATE)
        made.start()
        with made.watched("nothing happens") as seen:
            time.sleep(5)
        assert not seen.failed
        assert seen.requests > 4 * RATE
        assert sum(map(carried, pods())) >= seen.requests
        yield made
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def scale(*, least: int, most: int, percent: int = 70) -> None:
    """The bounds and the target of the waypoint's autoscaler."""
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}
    spec = {
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": cpu}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    }
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "waypoint", "namespace": NAMESPACE},
        "data": {"horizontalPodAutoscaler": json.dumps({"spec": spec})},
    }
    kubectl("apply", "-f", "-", given=config_map)


def test_rollouts_of_the_waypoint(load: Load) -> None:
    with load.watched(f"{ROLLOUTS} rollouts") as seen:
        for _ in range(ROLLOUTS):
            restart("deployment/waypoint")

    assert not seen.failed


def test_a_node_is_drained(load: Load) -> None:
    node = NODES[1].name
    with load.watched("node drained") as seen:
        try:
            kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={SECONDS:.0f}s")
            until(lambda: {it["spec"]["nodeName"] for it in pods()} == {NODES[0].name}, SECONDS)
            rolled_out("deployment/waypoint")
        finally:
            kubectl("uncordon", node)

    assert not seen.failed


def target() -> str:
    """The autoscaler's target, in per cent."""
    path = "jsonpath={.spec.metrics[0].resource.target.averageUtilization}"
    return kubectl("get", "hpa", "waypoint", "-n", NAMESPACE, "-o", path)


def test_the_leader_of_the_controllers_is_killed(load: Load) -> None:
    leader = kubectl("get", "lease", LEASE, "-n", mesh.NAMESPACE, "-o", "jsonpath={.spec.holderIdentity}")
    with load.watched("leader killed") as seen:
        kill_in_pod(leader)
        scale(least=2, most=2, percent=71)
        until(lambda: target() == "71", SECONDS)
        restart("deployment/waypoint")
        rolled_out("deployment/pywaypoint-controller", mesh.NAMESPACE)

    assert not seen.failed


def test_the_api_server_is_away(load: Load) -> None:
    with load.watched(f"API server away for {AWAY_SECONDS:g} s") as seen:
        with api_server_away():
            time.sleep(AWAY_SECONDS)
        restart("deployment/waypoint")

    assert not seen.failed


def test_a_replica_is_killed(load: Load) -> None:
    """It costs what it carried. What is sent to it within a second more is retried, or was under way."""
    victim = pods()[0]["metadata"]["name"]
    with load.watched("replica killed") as seen:
        time.sleep(2)
        killed = time.time()
        kill_in_pod(victim)
        until(lambda: any(it["restartCount"] for each in pods() for it in each["status"]["containerStatuses"]), SECONDS)
        rolled_out("deployment/waypoint")
        time.sleep(5)

    lost = [it for it in seen.failed if not (it.began < killed + NEWS_SECONDS and it.ended > killed)]
    assert not lost


@pytest.fixture(scope="module")
def metrics_server() -> Iterator[None]:
    """What the autoscaler reads the CPU of pods from."""
    kubelets.import_image(images.of_program("metrics-server:cluster", "metrics-server", STATE / "metrics-server.tar"))
    try:
        kubectl("apply", "-f", str(METRICS_SERVER))
        rolled_out("deployment/metrics-server", "kube-system")
        yield
    finally:
        kubectl("delete", "-f", str(METRICS_SERVER))


@pytest.mark.usefixtures("metrics_server")
def test_the_waypoint_is_scaled_up_and_down(load: Load) -> None:
    """By its autoscaler: first the target is far below what the load costs, and then far above."""
    with load.watched("2 to 4 to 2 replicas") as seen:
        scale(least=2, most=4, percent=1)
        until(lambda: len(pods()) == 4, SECONDS)
        rolled_out("deployment/waypoint")
        until(lambda: all(carried(it) for it in pods()), SECONDS)
        scale(least=2, most=4, percent=1000)
        until(lambda: len(pods()) == 2, SECONDS)
        until(lambda: len(pods(and_ending=True)) == 2, SECONDS)

    assert not seen.failed


def test_rollout_of_the_agents(load: Load) -> None:
    with load.watched("rollout of the agents") as seen:
        restart("daemonset/pywaypoint-agent", mesh.NAMESPACE)

    assert not seen.failed


def test_rollout_of_the_ztunnels(load: Load) -> None:
    """A ztunnel doesn't know where a request in its bytes ends: it cuts what is left when it must go. New connections
    succeed throughout."""
    with load.watched("rollout of the ztunnels") as seen:
        restart("daemonset/ztunnel", mesh.NAMESPACE)
        until(lambda: len(pods(mesh.NAMESPACE, "app=ztunnel", and_ending=True)) == len(NODES), SECONDS)
    with load.watched("thereafter") as then:
        time.sleep(5)

    assert not [it for it in seen.failed if it.kind == "HTTP/1.1 anew"]
    assert not then.failed


@pytest.fixture
def short_lives(load: Load) -> Iterator[None]:
    """Certificates that are renewed after half a minute."""
    try:
        mesh.install(mesh.CHART, f"--set=ca.certificateSeconds={LIFE}")
        restart("daemonset/ztunnel", mesh.NAMESPACE)
        restart("deployment/waypoint")
        yield
    finally:
        mesh.install()


@pytest.mark.usefixtures("short_lives")
def test_the_root_is_replaced(load: Load) -> None:
    """As docs/install.md tells it."""
    old = secret()
    new = RootAuthority.make("cluster.local", utc_now())
    with load.watched("root replaced") as seen:
        replace(secret={ROOTS: old[ROOTS] + new[ROOTS]})
        until(lambda: all(new[ROOTS].decode() in mounted(it) for it in proxies()), SECONDS)
        until_renewed()
        replace(secret={CERTIFICATE: new[CERTIFICATE], KEY: new[KEY]})
        until_renewed()
        replace(secret={ROOTS: new[ROOTS]})
        until_renewed()
        until(lambda: all(old[ROOTS].decode() not in mounted(it) for it in proxies()), SECONDS)

    assert not seen.failed


def secret() -> dict[str, bytes]:
    data = json.loads(kubectl("get", "secret", OWN, "-n", mesh.NAMESPACE, "-o", "json"))["data"]
    return {name: base64.b64decode(it) for name, it in data.items()}


def replace(secret: dict[str, bytes]) -> None:
    """Writes these pieces of the authority, and waits until all controllers have read them."""
    data = {name: base64.b64encode(it).decode() for name, it in secret.items()}
    kubectl("patch", "secret", OWN, "-n", mesh.NAMESPACE, "-p", json.dumps({"data": data}))
    time.sleep(POLL_SECONDS + 1)


def proxies() -> list[Any]:
    return pods() + pods(mesh.NAMESPACE, "app=ztunnel")


def mounted(pod: Any) -> str:
    """The roots in a pod's file."""
    about = pod["metadata"]
    return kubectl("exec", "-n", about["namespace"], about["name"], "--", "cat", "/var/run/secrets/istio/root-cert.pem")


def until_renewed() -> None:
    """Waits until every proxy has only certificates that were signed from now on, for LIFE."""
    began = time.time()

    def is_new(seconds_left: float) -> bool:
        return began + LIFE - time.time() < seconds_left <= LIFE

    until(lambda: all(is_new(it) for pod in proxies() for it in values(pod, "istio_cert_expiry_seconds")), SECONDS)
