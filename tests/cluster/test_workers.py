"""A waypoint of one replica with two workers, by the overlay of its Gateway, under load: one of them is killed."""

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import mesh
from tests.cluster.kubectl import kubectl
from tests.cluster.load import Load
from tests.cluster.machine import in_pod
from tests.cluster.test_rollouts import NEWS_SECONDS, SECONDS, carried, pods, rolled_out
from tests.cluster.waiting import until
from waypoint.process.supervisor import COUNTS_SECONDS

NAMESPACE = "workers"
RATE = 100.0
WORKER = "waypoint.process.child"
STATUS = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:15000/status').read().decode())"
GATEWAY = mesh.waypoint(NAMESPACE, overlay="waypoint")
TWO_WORKERS = {"name": "waypoint", "env": [{"name": "WAYPOINT_WORKERS", "value": "2"}]}
OVERLAY = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "waypoint", "namespace": NAMESPACE},
    "data": {
        "deployment": json.dumps({"spec": {"template": {"spec": {"containers": [TWO_WORKERS]}}}}),
        "horizontalPodAutoscaler": json.dumps({"spec": {"minReplicas": 1, "maxReplicas": 1}}),
    },
}
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(340)]


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    mesh.install()
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")
    labels = {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    try:
        objects = {"apiVersion": "v1", "kind": "List", "items": [namespace, OVERLAY, GATEWAY]}
        kubectl("apply", "-f", "-", given=objects)
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Programmed", "gateway/waypoint", "--timeout=120s")
        until(lambda: len(pods(NAMESPACE)) == 1, SECONDS)
        rolled_out("deployment/waypoint", NAMESPACE)
        made = Load(NAMESPACE, RATE)
        made.start()
        yield made
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def pod() -> Any:
    (found,) = pods(NAMESPACE)
    return found


def connections(name: str) -> list[int]:
    """Those of each worker that answers, as the waypoint's page /status tells them."""
    status = json.loads(kubectl("exec", "-n", NAMESPACE, name, "--", "python3", "-c", STATUS))
    return [it["connections"] for it in status["workers"]]


def test_both_workers_serve_and_when_one_is_killed_the_other_goes_on(load: Load) -> None:
    name = pod()["metadata"]["name"]
    until(lambda: len(found := connections(name)) == 2 and all(found), SECONDS)
    victim, other = sorted(in_pod(name, WORKER))

    with load.watched("worker killed") as seen:
        before = carried(pod())
        time.sleep(5)
        killed = time.time()
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(set(in_pod(name, WORKER)) - {victim}) == 2, SECONDS)
        until(lambda: len(connections(name)) == 2, SECONDS)
        time.sleep(COUNTS_SECONDS + 1)
        counted = carried(pod()) - before

    assert other in in_pod(name, WORKER)
    assert not any(it["restartCount"] for it in pod()["status"]["containerStatuses"])
    assert not [it for it in seen.failed if not (it.began < killed + NEWS_SECONDS and it.ended > killed)]
    # The worker took with it what it had counted since it was last asked. Nothing is counted twice.
    assert seen.requests - RATE * COUNTS_SECONDS <= counted <= 1.2 * seen.requests
    with load.watched("thereafter") as then:
        time.sleep(5)
    assert not then.failed
    assert then.requests > 4 * RATE
