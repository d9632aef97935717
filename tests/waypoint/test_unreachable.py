"""Unreachable endpoints, and their cost for the requests that meet them and for later ones."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.black_hole import black_hole
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import answering, origin

REDIRECTED = ", annotations: {ambient.istio.io/redirection: enabled}"
QUICK = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec: {host: app, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1500ms}}}}
"""


def retries(it: Mesh) -> int:
    text = it.metrics.render("")[0].decode()
    found = re.search(r'pywaypoint_cluster_events_total{event="upstream_rq_retry",[^}]*} (\d+)', text)
    return int(found[1]) if found else 0


class Two:
    """A service of two pods: one answers, at the address of the other there is nobody."""

    def __init__(self, *, is_plain: bool) -> None:
        self.waypoint, self.vip, self.pod, self.dead = address(), address(), address(), address()
        text = manifests(waypoint=self.waypoint, vip=self.vip, pods={"app-1": self.pod, "app-2": self.dead}, more=QUICK)
        self.text = text.replace(REDIRECTED, "") if is_plain else text
        self.authority = f"{self.vip}:9080"


@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "tunnels"])
def test_an_endpoint_that_refuses_costs_one_attempt(tmp_path: Path, is_plain: bool) -> None:
    async def scenario() -> None:
        at = Two(is_plain=is_plain)
        async with mesh(tmp_path, at.text, at.waypoint) as it, origin(at.pod, answering()):
            answers = [await it.get(at.authority) for _ in range(30)]

            assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
            assert retries(it) <= 2  # a second one only if all this took longer than the first pause

    run(scenario())


def test_an_endpoint_that_drops_packets_costs_its_wait_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Two(is_plain=True)
        loop, seconds = asyncio.get_running_loop(), []
        with black_hole(at.dead, 9080):
            async with mesh(tmp_path, at.text, at.waypoint) as it, origin(at.pod, answering()):
                for _ in range(30):
                    began = loop.time()
                    assert (await it.get(at.authority)).startswith(b"HTTP/1.1 200")
                    seconds.append(loop.time() - began)

        assert sum(it > 1.4 for it in seconds) <= 1

    run(scenario())


def test_an_endpoint_that_is_back_gets_requests_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Two(is_plain=True)
        async with mesh(tmp_path, at.text, at.waypoint) as it, origin(at.pod, answering()):
            [cluster] = [it for it in it.clusters if it.endpoints]
            while len(cluster.available) == 2:
                await it.get(at.authority)

            async with origin(at.dead, answering(b"back")):
                await settled(lambda: len(cluster.available) == 2, 15)
                answers = {(await it.get(at.authority)).rpartition(b"\r\n")[2] for _ in range(30)}

        assert answers == {b"hello", b"back"}

    run(scenario())
