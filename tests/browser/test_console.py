"""The console in a real browser, over Bookinfo in the laptop mesh."""

import os
import re
import shutil
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.laptop import TOP, LaptopMesh, mesh_up

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

FAULT = """
apiVersion: pywaypoint.dev/v1alpha1
kind: FaultPolicy
metadata: {name: broken-details, namespace: default}
spec:
  targetRefs: [{group: "", kind: Service, name: details}]
  rules: [{name: all, abort: {httpStatus: 503, percentage: 100}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ratings, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: ratings}]
  rules: [{backendRefs: [{name: nobody, port: 9080}]}]
"""
MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: details, namespace: default}}
spec:
  hosts: [details]
  http:
  - name: {MARKUP}
    match: [{{uri: {{prefix: "/{MARKUP}"}}, headers: {{x-a: {{exact: "{MARKUP}"}}}}}}]
    route: [{{destination: {{host: details}}}}]
  - name: rest
    route: [{{destination: {{host: details}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: details, namespace: default}}
spec:
  targetRefs: [{{group: "", kind: Service, name: details}}]
  action: DENY
  rules: [{{to: [{{operation: {{paths: ["/{MARKUP}"]}}}}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: hostile, namespace: default}}
spec:
  parentRefs: [{{group: "", kind: Service, name: "{MARKUP}"}}]
  rules: [{{backendRefs: [{{name: "{MARKUP}", port: 9080}}]}}]
"""
BOOKINFO = TOP / "examples" / "bookinfo"
HOST, PORT = "127.0.0.1", 19480
INGRESS = f"{HOST}:{PORT}"
CONSOLE = "http://127.0.0.1:9070/console/"
WAYPOINT = "http://127.64.0.3:15000/console/"
NARROW = {"width": 400, "height": 800}
WIDE = {"width": 1280, "height": 860}
WAIT_MS = 20_000


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of manifests that a test adds to."""
    return tmp_path_factory.mktemp("more")


@pytest.fixture
def fault(more: Path) -> Iterator[Path]:
    file = more / "fault.yaml"
    file.write_text(FAULT)
    yield file
    file.unlink()


@pytest.fixture
def hostile(more: Path) -> Iterator[None]:
    """Names and values that are markup."""
    file = more / "hostile.yaml"
    file.write_text(HOSTILE)
    yield
    file.unlink()


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(BOOKINFO / "routes.yaml", tmp_path_factory.mktemp("routes")))


@pytest.fixture(scope="module")
def mesh(routes: Path, more: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopMesh]:
    manifests = map(str, (BOOKINFO / "platform", BOOKINFO / "gateway.yaml", routes, more))
    flags = ("--programs", str(BOOKINFO / "programs.yaml"), "--ingress", f"productpage={INGRESS}")
    with mesh_up(tmp_path_factory.mktemp("mesh"), *manifests, *flags) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def load(mesh: LaptopMesh) -> Iterator[None]:
    """Ten pages a second."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.1):
            try:
                with urllib.request.urlopen(f"http://{INGRESS}/productpage", timeout=10) as page:
                    page.read()
            except urllib.error.HTTPError:
                pass  # a fault is what a test wants to see

    asking = threading.Thread(target=ask)
    asking.start()
    yield
    stop.set()
    asking.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # not among the dependencies of other tests

    with sync_playwright() as playwright:
        program = shutil.which(os.environ.get("CHROMIUM", "chromium"))
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, mesh: LaptopMesh) -> Iterator[Any]:
    """A page of a browser that complains about nothing: no error, nothing that the page's own policy forbids."""
    context = browser.new_context(viewport=WIDE)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


@pytest.mark.usefixtures("load")
def test_the_graph_shows_who_calls_whom_how_often_and_with_mutual_tls(page: Any) -> None:
    page.goto(CONSOLE)

    link = page.get_by_role("button", name="From productpage-v1 to details:")
    link.locator(".carries", has_text=re.compile("^[1-9]")).wait_for()

    assert "no errors" in link.get_attribute("aria-label")
    assert "mutual TLS" in link.get_attribute("aria-label")
    assert link.locator(".lock").is_visible()
    names = [it.strip() for it in page.locator(".node .title").all_text_contents()]
    assert {"ingress", "productpage", "productpage-v1", "details-v1", "reviews-v1", "ratings-v1"} <= set(names)
    assert "waypoint" not in names


@pytest.mark.usefixtures("load")
def test_the_hops_of_the_mesh_are_shown_when_asked_for(page: Any) -> None:
    page.goto(CONSOLE)

    page.get_by_label("the mesh’s own hops").check()

    page.get_by_role("button", name="Waypoint waypoint default").wait_for()


@pytest.mark.usefixtures("load")
def test_a_keyboard_reaches_a_link_and_its_details(page: Any) -> None:
    page.goto(CONSOLE)
    page.get_by_role("button", name="Workload ingress").focus()

    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")

    details = page.get_by_role("complementary", name="Details")
    details.get_by_role("heading", name="ingress → productpage").wait_for()
    assert "/ns/default/sa/ingress" in details.inner_text()
    page.keyboard.press("Escape")
    details.wait_for(state="hidden")


@pytest.mark.usefixtures("load")
def test_a_waypoints_own_port_serves_the_same_page(page: Any) -> None:
    page.goto(WAYPOINT)

    page.get_by_role("button", name="From productpage-v1 to details:").wait_for()


@pytest.mark.usefixtures("load", "fault")
def test_a_fault_shows_in_the_graph_and_each_failed_request_has_its_trail(page: Any) -> None:
    page.goto(CONSOLE)
    page.locator(".link[data-health=failure] .label").first.click()
    details = page.get_by_role("complementary", name="Details")
    details.get_by_text("FI: an error was injected").wait_for()

    page.get_by_role("link", name="Requests").click()
    page.get_by_label("Which requests").select_option(label="errors only")
    page.locator("tr.failure", has_text="503 FI").first.locator(".pick").click()

    trail = page.get_by_role("complementary", name="Request")
    trail.get_by_role("heading", name="a fault was injected").wait_for()
    assert "fault_filter_abort" in trail.inner_text()
    assert "spiffe://cluster.local/ns/default/sa/bookinfo-productpage" in trail.inner_text()


@pytest.mark.usefixtures("load")
def test_routes_show_weights_beside_where_requests_go_now(page: Any) -> None:
    page.goto(f"{CONSOLE}#routes")

    row = page.get_by_role("row").filter(has_text="HTTPRoute default/reviews rules[1]")
    row.get_by_text("reviews-v1.default 90 %").wait_for()
    row.get_by_text(re.compile("now [1-9]")).first.wait_for()


def test_problems_have_file_and_line(page: Any, fault: Path) -> None:
    page.goto(f"{CONSOLE}#problems")

    row = page.get_by_role("row").filter(has_text="there is no Service default/nobody")
    row.get_by_text(f"{fault}:14").wait_for()


@pytest.mark.parametrize(
    ("view", "text"),
    [
        ("policies", "FaultPolicy"),
        ("endpoints", "127.64.0.4:9080"),
        ("connections", "spiffe://cluster.local/ns/default/sa/ingress"),
        ("certificates", "spiffe://cluster.local/ns/default/sa/waypoint"),
        ("programs", "default/waypoint"),
    ],
)
@pytest.mark.usefixtures("load", "fault")
def test_what_programs_hold_is_a_table(page: Any, view: str, text: str) -> None:
    page.goto(f"{CONSOLE}#{view}")

    page.get_by_role("cell", name=text).first.wait_for()


def test_keys_change_the_view_and_tell_of_each_other(page: Any) -> None:
    page.goto(CONSOLE)
    page.get_by_role("region", name="Graph").wait_for()

    page.keyboard.press("g")
    page.keyboard.press("e")
    page.get_by_role("region", name="Problems").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("/")

    page.get_by_role("dialog", name="Keys").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.type") == "search"


def test_what_would_happen_is_told_without_sending_anything(page: Any) -> None:
    page.goto(f"{CONSOLE}#what-if")
    page.get_by_label("Client").fill("default/bookinfo-productpage")
    page.get_by_label("Service").fill("reviews:9080")
    page.get_by_label("Headers").fill("end-user: jason")

    page.get_by_role("button", name="What would happen?").click()

    page.get_by_role("heading", name="reviews-v2").wait_for()
    assert "header end-user = jason" in page.locator(".trail").inner_text()


@pytest.mark.parametrize("view", ["graph", "requests", "routes", "connections", "certificates", "what-if"])
@pytest.mark.usefixtures("load")
def test_nothing_is_wider_than_a_narrow_screen(page: Any, view: str) -> None:
    page.set_viewport_size(NARROW)
    page.goto(f"{CONSOLE}#{view}")
    page.locator("main .node, main td:not(.empty), main form").first.wait_for()

    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


@pytest.mark.usefixtures("load")
def test_a_paused_page_asks_nothing(page: Any) -> None:
    page.goto(CONSOLE)
    page.get_by_role("button", name="Workload ingress").wait_for()
    asked: list[str] = []

    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(500)  # what was asked before may still be under way
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)  # longer than the pause between two rounds

    assert asked == []
    page.get_by_role("button", name="Go on").click()
    page.wait_for_event("request")


def test_names_and_paths_are_shown_as_text(page: Any) -> None:
    path = "/<img src=x onerror=alert(1)>"
    page.goto(f"{CONSOLE}#what-if")
    page.get_by_label("Service").fill("reviews:9080")
    page.get_by_label("Path").fill(path.replace(" ", "%20"))

    page.get_by_role("button", name="What would happen?").click()

    page.locator(".answer").get_by_text("onerror").first.wait_for()
    assert page.locator("main img").count() == 0


@pytest.mark.parametrize("view", ["routes", "policies", "problems"])
@pytest.mark.usefixtures("load", "hostile")
def test_names_and_values_of_objects_are_shown_as_text(page: Any, view: str) -> None:
    page.goto(f"{CONSOLE}#{view}")

    page.locator("main").get_by_text("onerror").first.wait_for()
    assert page.locator("img").count() == 0


@pytest.mark.usefixtures("load")
def test_what_requests_carry_is_shown_as_text(page: Any) -> None:
    page.goto(f"{CONSOLE}#requests")
    page.locator("main td .pick").first.wait_for()
    with socket.create_connection((HOST, PORT), 10) as sock:
        head = f"GET /{MARKUP.replace(' ', '')}?a={MARKUP.replace(' ', '')} HTTP/1.1\r\nHost: productpage\r\n"
        sock.sendall(f"{head}User-Agent: {MARKUP}\r\nX-Request-Id: {MARKUP}\r\nConnection: close\r\n\r\n".encode())
        assert sock.recv(12).startswith(b"HTTP/1.1 ")

    page.get_by_role("row").filter(has_text="onerror").first.locator(".pick").click()

    page.get_by_role("complementary", name="Request").get_by_text("onerror").first.wait_for()
    assert page.locator("img").count() == 0


RATES = """async () => {
    const {Rates, quantile, measure} = await import("/console/rates.js");
    const edge = (ok, failed) => ({reporter: "waypoint", source: {}, service: "s", destination: {}, protocol: "http",
        security: "mutual_tls", results: {"200 - -": ok, "503 - UH": failed}, durations: [ok, failed, 0],
        opened: 0, closed: 0, received: 0, sent: 0});
    const rates = new Rates();
    const told = [];
    for (const [seconds, ok, failed] of [[10, 100, 0], [12, 120, 20], [1, 5, 0], [3, 15, 0]]) {
        rates.add({name: "w"}, {seconds, buckets: [10, 20], edges: [edge(ok, failed)]});
        const is = measure(rates.edges()[0]);
        told.push([is.perSecond, is.failed, is.health]);
    }
    return {told, quantile: quantile({durations: [50, 50, 0], buckets: [10, 20]}, 0.75)};
}"""


def test_rates_are_what_counters_gained_and_begin_anew_with_a_program(page: Any) -> None:
    page.goto(CONSOLE)

    found = page.evaluate(RATES)

    assert found["told"] == [
        [0, 0, "idle"],
        [20, 0.5, "failure"],  # 20 good and 20 failed in two seconds
        [0, 0, "idle"],  # the program started again
        [5, 0, "healthy"],
    ]
    assert found["quantile"] == 15


def test_a_page_of_another_origin_learns_nothing(page: Any, browser: Any) -> None:
    """The other page comes from the waypoint's own port, whose policy is lifted: an origin with a server is needed."""
    context = browser.new_context(bypass_csp=True)
    other = context.new_page()
    other.goto(WAYPOINT)

    told = other.evaluate(
        """async (address) => {
            try { return (await fetch(address)).status } catch (error) { return error.name }
        }""",
        CONSOLE.replace("/console/", "/programs"),
    )
    opaque = other.evaluate(
        "address => fetch(address, {mode: 'no-cors'}).then(it => it.type, error => error.name)",
        CONSOLE.replace("/console/", "/programs/0/config_dump"),
    )

    context.close()
    assert (told, opaque) == ("TypeError", "TypeError")
