"""The console in a real browser, over Bookinfo in the laptop mesh."""

import os
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.laptop import TOP, LaptopMesh, mesh_up

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

BOOKINFO = TOP / "examples" / "bookinfo"
INGRESS = "127.0.0.1:19080"
CONSOLE = "http://127.0.0.1:9070/console/"
WAYPOINT = "http://127.64.0.3:15000/console/"
NARROW = {"width": 400, "height": 800}
WIDE = {"width": 1280, "height": 860}
WAIT_MS = 20_000


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(BOOKINFO / "routes.yaml", tmp_path_factory.mktemp("routes")))


@pytest.fixture(scope="module")
def mesh(routes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopMesh]:
    manifests = map(str, (BOOKINFO / "platform", BOOKINFO / "gateway.yaml", routes))
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
    names = page.locator(".node .title").all_text_contents()
    assert {"ingress", "productpage", "productpage-v1", "details-v1", "reviews-v1", "ratings-v1"} <= set(names)
    assert "waypoint" not in names


@pytest.mark.usefixtures("load")
def test_the_hops_of_the_mesh_are_shown_when_asked_for(page: Any) -> None:
    page.goto(CONSOLE)

    page.get_by_label("the mesh’s own hops").check()

    page.get_by_role("button", name="Waypoint waypoint in default").wait_for()


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


def test_what_would_happen_is_told_without_sending_anything(page: Any) -> None:
    page.goto(f"{CONSOLE}#what-if")
    page.get_by_label("Client").fill("default/bookinfo-productpage")
    page.get_by_label("Service").fill("reviews:9080")
    page.get_by_label("Headers").fill("end-user: jason")

    page.get_by_role("button", name="What would happen?").click()

    page.get_by_role("heading", name="reviews-v2").wait_for()
    assert "header end-user = jason" in page.locator(".trail").inner_text()


@pytest.mark.usefixtures("load")
def test_nothing_is_wider_than_a_narrow_screen(page: Any) -> None:
    page.set_viewport_size(NARROW)
    page.goto(CONSOLE)
    page.get_by_role("button", name="Workload ingress").wait_for()

    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


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
