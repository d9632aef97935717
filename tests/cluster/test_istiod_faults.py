"""istiod is killed, restarted, away, or answers nonsense, and requests go on: none fails.

Each test prints what became of the requests, and what our programs used meanwhile.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from l4._proto.workload_pb2 import Address
from l4._proto.xds_pb2 import DeltaDiscoveryResponse
from tests.cluster.gate import NONSENSE, Passing
from tests.cluster.istio_mesh import NAME, Mesh, istio_mesh
from tests.cluster.middleman import Answer
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(300)]

SECONDS = float(os.environ.get("FAULT_SECONDS", "10"))
"""How long each fault lasts."""
SERVER = f"Kubernetes//Pod/{NAME}/server"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with istio_mesh(tmp_path_factory.mktemp("mesh")) as it:
        yield it


@pytest.fixture(autouse=True)
def as_it_was(mesh: Mesh) -> Iterator[None]:
    mesh.call_middleman()
    mesh.change()
    yield
    mesh.middleman.alter = lambda response: response
    mesh.gate.set(Passing.THROUGH)


def test_istiod_is_killed_and_comes_back(mesh: Mesh) -> None:
    mesh.call_directly()
    mesh.change()

    with mesh.watched("istiod killed, and started again") as seen:
        mesh.istiod.end(signal.SIGKILL)
        time.sleep(SECONDS)
        assert all("stays in force" in it.concern() for it in mesh.ztunnels)
        mesh.istiod.start()
        seconds = mesh.change()

    print(f"    the next change is known after {seconds:.1f} s")
    assert seen.failed == []
    assert not any("stays in force" in it.concern() for it in mesh.ztunnels)


def test_istiod_is_restarted_in_order_again_and_again(mesh: Mesh) -> None:
    mesh.call_directly()

    with mesh.watched("istiod restarted three times") as seen:
        for _ in range(3):
            mesh.istiod.end()
            mesh.istiod.start()
            mesh.change()

    assert seen.failed == []


def test_connections_to_istiod_are_reset(mesh: Mesh) -> None:
    with mesh.watched("each connection to istiod is reset") as seen:
        before = mesh.gate.accepted
        mesh.gate.set(Passing.RESET)
        time.sleep(SECONDS)
        tried = mesh.gate.accepted - before
        mesh.gate.set(Passing.THROUGH)
        mesh.change()

    print(f"    {tried / SECONDS:.1f} connections a second were tried")
    assert seen.failed == []
    assert 2 <= tried < 10 * SECONDS


def test_istiod_speaks_no_http2(mesh: Mesh) -> None:
    with mesh.watched("what answers in place of istiod speaks no HTTP/2") as seen:
        before = mesh.gate.accepted
        mesh.gate.set(Passing.NONSENSE)
        until(lambda: mesh.gate.accepted >= before + 2 * len(NONSENSE))
        mesh.gate.set(Passing.THROUGH)
        mesh.change()

    assert seen.failed == []


def _other_type(response: DeltaDiscoveryResponse) -> Answer:
    response.type_url = "type.googleapis.com/made.up.Type"
    return response


def _no_resources(response: DeltaDiscoveryResponse) -> Answer:
    for it in response.resources:
        it.resource.value = b"\xff\xfe" + it.resource.value[: len(it.resource.value) // 2]
    return response


def _other_resources(response: DeltaDiscoveryResponse) -> Answer:
    for it in response.resources:
        it.resource.type_url = "type.googleapis.com/made.up.Type"
    return response


NO_ANSWERS: dict[str, Callable[[DeltaDiscoveryResponse], Answer]] = {
    "bytes that are no message": lambda response: b"\xff" * 100,
    "an empty message": lambda response: b"",
    "a type that nobody knows": _other_type,
    "resources cut in half": _no_resources,
    "resources of a type that nobody knows": _other_resources,
}


@pytest.mark.parametrize("what", NO_ANSWERS)
def test_istiod_answers_with(mesh: Mesh, what: str) -> None:
    altered = []

    def alter(response: DeltaDiscoveryResponse) -> Answer:
        altered.append(response.type_url)
        return NO_ANSWERS[what](response)

    with mesh.watched(f"istiod answers with {what}") as seen:
        mesh.middleman.alter = alter
        mesh.call_middleman()  # new streams, whose first responses have everything
        mesh.server.kubectl("label", "pod", "server", "-n", NAME, f"version={len(what)}", "--overwrite")
        until(lambda: len(altered) >= 4)
        time.sleep(SECONDS / 3)
        mesh.middleman.alter = lambda response: response
        mesh.call_middleman()
        mesh.change()

    assert seen.failed == []


def test_a_resource_that_is_no_workload_is_refused_by_name_and_the_one_before_stays(mesh: Mesh) -> None:
    def alter(response: DeltaDiscoveryResponse) -> DeltaDiscoveryResponse:
        for it in response.resources:
            if it.name == SERVER:
                address = Address.FromString(it.resource.value)
                address.workload.addresses[:] = [b"12345"]
                it.resource.value = address.SerializeToString()
        return response

    mesh.middleman.alter = alter
    mesh.middleman.refused.clear()

    with mesh.watched("istiod sends a workload whose address is none") as seen:
        mesh.server.kubectl("label", "pod", "server", "-n", NAME, "version=broken", "--overwrite")
        until(lambda: len(mesh.middleman.refused) >= 2)
        mesh.change()  # others count
        mesh.middleman.alter = lambda response: response
        mesh.call_middleman()
        mesh.change()

    print(f"    refused: {mesh.middleman.refused[0]}")
    assert all(SERVER in it and "address" in it for it in mesh.middleman.refused)
    for it in mesh.ztunnels:
        assert f"{mesh.middleman.refused[0].partition(': ')[2]}; its last good version stays" in it.log.read_text()
    assert SERVER in (mesh.folder / "istiod.log").read_text()
    assert seen.failed == []
