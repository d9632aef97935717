"""Bookinfo in the cluster, and the tests of its page: the same, whoever tells the mesh what is in it and signs."""

import http.cookiejar
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from tests.cluster.kubectl import kubectl
from tests.cluster.machine import NODES
from tests.cluster.waiting import until
from tests.cluster.wire import captured
from tests.image.buildah import ROOT

BOOKINFO = ROOT / "examples" / "bookinfo"
NAMESPACE = "bookinfo"
SECONDS = 120.0


def pods(selector: str = "app") -> list[Any]:
    text = kubectl("get", "pods", "-n", NAMESPACE, "-l", selector, "-o", "json")
    found: list[Any] = json.loads(text)["items"]
    return found


def restarts() -> dict[str, int]:
    """Of each container, by the UID of its pod."""
    return {
        it["metadata"]["uid"]: sum(each["restartCount"] for each in it["status"]["containerStatuses"]) for it in pods()
    }


def conditions(kind: str, name: str) -> dict[str, str]:
    """Status by type, of an object or of all parents of a route."""
    status = json.loads(kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json")).get("status", {})
    sections = [status, *status.get("parents", [])]
    return {it["type"]: it["status"] for section in sections for it in section.get("conditions", [])}


class Browser:
    """Reaches the product page by a port that kubectl forwards. Keeps cookies, as somebody who signs in needs."""

    def __init__(self, port: int) -> None:
        self._site = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def get(self, path: str) -> str:
        with self._opener.open(f"{self._site}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def sign_in(self, user: str) -> None:
        form = urllib.parse.urlencode({"username": user}).encode()
        with self._opener.open(f"{self._site}/login", form, timeout=10):
            pass

    def reviews_version(self) -> str:
        return str(json.loads(self.get("/api/v1/products/0/reviews"))["version"])


@contextmanager
def running(install: Callable[[], None]) -> Iterator[None]:
    """Bookinfo without a mesh, then the mesh, by `install`. Pods run before, and are not restarted."""
    kubectl("create", "namespace", NAMESPACE)
    try:
        kubectl("apply", "-n", NAMESPACE, "-f", str(BOOKINFO / "platform"))
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Available", "deployments", "--all", "--timeout=180s")
        before = restarts()
        install()
        kubectl("label", "namespace", NAMESPACE, "istio.io/dataplane-mode=ambient")
        files = [word for it in ("platform", "gateway.yaml", "routes.yaml") for word in ("-f", str(BOOKINFO / it))]
        kubectl("apply", "-n", NAMESPACE, *files)
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Programmed", "gateway/waypoint", "--timeout=180s")
        # The autoscaler adds the second replica. From then on no pod of the waypoint comes or goes.
        both = "--for=jsonpath={.status.readyReplicas}=2"
        kubectl("wait", "-n", NAMESPACE, both, "deployment/waypoint", "--timeout=180s")
        annotation = "ambient.istio.io/redirection"
        until(lambda: all(it["metadata"].get("annotations", {}).get(annotation) == "enabled" for it in pods()), SECONDS)
        assert restarts() == before
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE)


class PageTests:
    """A test class of this one needs the fixtures `bookinfo`, in which Bookinfo runs, and `port`."""

    def test_the_page_shows_what_details_and_reviews_say(self, port: int) -> None:
        page = Browser(port).get("/productpage")

        assert "Every missed connection cost Fogg an hour" in page
        assert "currently unavailable" not in page

    def test_jason_is_sent_to_v2_and_sees_black_stars(self, port: int) -> None:
        jason, other = Browser(port), Browser(port)
        jason.sign_in("jason")

        assert {jason.reviews_version() for _ in range(10)} == {"v2"}
        assert "v2" not in {other.reviews_version() for _ in range(10)}
        assert "black" in jason.get("/productpage")

    @pytest.mark.usefixtures("bookinfo")
    def test_gateway_and_route_say_that_they_work(self) -> None:
        assert conditions("gateway", "waypoint") == {"Accepted": "True", "Programmed": "True"}
        told = {"Accepted": "True", "ResolvedRefs": "True"}
        until(lambda: conditions("httproute", "reviews") == told, SECONDS)

    def test_between_nodes_there_is_only_hbone_in_tls(self, port: int) -> None:
        waypoints = pods("gateway.networking.k8s.io/gateway-name=waypoint")
        nodes = {it["spec"]["nodeName"] for it in (*pods(), *waypoints)}
        assert nodes == {it.name for it in NODES}, "the scheduler has put all of Bookinfo and its waypoint on one node"
        with captured(NODES[1]) as seen:
            for user in ("jason", "ines"):
                browser = Browser(port)
                browser.sign_in(user)
                for _ in range(20):
                    browser.get("/productpage")

        assert seen.ports[15008] > 0
        assert 9080 not in seen.ports
        assert not [it for it in seen.texts if b"HTTP/1.1" in it]
        assert set(seen.records) <= {0x16, 0x17}  # a handshake, or application data of a connection that was there

    def test_metrics_and_access_log_of_the_waypoint_prove_the_path(self, port: int) -> None:
        jason = Browser(port)
        jason.sign_in("jason")
        jason.get("/productpage")

        selector = ("-n", NAMESPACE, "-l", "gateway.networking.k8s.io/gateway-name=waypoint")
        until(lambda: '"GET /ratings/0 HTTP/1.1" 200' in kubectl("logs", *selector, "--tail=-1"), SECONDS)
        names = json.loads(kubectl("get", "pods", *selector, "-o", "json"))["items"]
        paths = [f"/api/v1/namespaces/{NAMESPACE}/pods/{it['metadata']['name']}:15020/proxy/metrics" for it in names]
        text = "\n".join(kubectl("get", "--raw", path) for path in paths)
        series = [
            dict(re.findall(r'(\w+)="([^"]*)"', it))
            for it in text.splitlines()
            if it.startswith("istio_requests_total{")
        ]
        calls = {
            (it["source_principal"].rpartition("/")[2], it["destination_workload"], it["connection_security_policy"])
            for it in series
            if it["reporter"] == "waypoint"
        }
        assert {
            ("bookinfo-productpage", "reviews-v2", "mutual_tls"),
            ("bookinfo-reviews", "ratings-v1", "mutual_tls"),
        } <= calls

    def test_an_edited_weight_moves_traffic_within_a_second(self, port: int) -> None:
        browser = Browser(port)
        route = yaml.safe_load((BOOKINFO / "routes.yaml").read_text())
        only_v3 = [{"backendRefs": [{"name": "reviews-v3", "port": 9080}]}]

        kubectl("apply", "-n", NAMESPACE, "-f", "-", given={**route, "spec": {**route["spec"], "rules": only_v3}})
        began = time.monotonic()
        while (seconds := time.monotonic() - began) < 1.0:
            browser.reviews_version()

        assert {browser.reviews_version() for _ in range(30)} == {"v3"}, f"after {seconds:.1f} s"
        kubectl("apply", "-n", NAMESPACE, "-f", str(BOOKINFO / "routes.yaml"))
