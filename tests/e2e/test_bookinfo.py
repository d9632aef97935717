"""Bookinfo on the laptop mesh: a browser's request through ztunnel, waypoint and ztunnel to every service and back."""

import json
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
import yaml
from _pytest.mark.structures import ParameterSet

from l4.config.settings import Settings
from tests.kit.laptop import TOP, LaptopMesh, mesh_up
from waypoint.ask.load import load
from waypoint.config.dump import dump

pytestmark = pytest.mark.timeout(300)  # one laptop mesh runs at a time: others may have to finish first
BOOKINFO = TOP / "examples" / "bookinfo"
INGRESS = "127.0.0.1:19080"
DETAILS = "127.0.0.1:19081"
RATINGS = "127.0.0.1:19082"
PAGE = f"http://{INGRESS}/productpage"
REVIEWS = f"http://{INGRESS}/api/v1/products/0/reviews"
LOAD_SECONDS = 2.0


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of routes that the mesh follows, to be edited."""
    return Path(shutil.copy(BOOKINFO / "routes.yaml", tmp_path_factory.mktemp("routes")))


@pytest.fixture(scope="module")
def mesh(routes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopMesh]:
    manifests = [BOOKINFO / "platform", BOOKINFO / "gateway.yaml", routes]
    ingresses = (f"productpage={INGRESS}", f"details={DETAILS}", f"ratings={RATINGS}")
    flags = ["--programs", str(BOOKINFO / "programs.yaml"), *(it for name in ingresses for it in ("--ingress", name))]
    with mesh_up(tmp_path_factory.mktemp("mesh"), *map(str, manifests), *flags) as mesh:
        yield mesh


@pytest.fixture
def original_routes(routes: Path) -> Iterator[None]:
    """Whatever a test makes of the routes is undone."""
    text = routes.read_text()
    yield
    routes.write_text(text)


class Browser:
    """Keeps cookies, as somebody who signs in needs."""

    def __init__(self) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, url: str) -> str:
        with self._opener.open(url, timeout=10) as answer:
            return str(answer.read().decode())

    def sign_in(self, user: str) -> str:
        form = urllib.parse.urlencode({"username": user}).encode()
        with self._opener.open(f"http://{INGRESS}/login", form, timeout=10) as answer:
            return str(answer.read().decode())

    def reviews_version(self) -> str:
        return str(json.loads(self.get(REVIEWS))["version"])


def samples(text: str, family: str) -> list[tuple[dict[str, str], float]]:
    """The series of a Prometheus family, as labels and value."""
    found = re.findall(rf"^{family}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
    return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in found]


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def replaced(routes: Path, by: Callable[[str], str]) -> None:
    draft = routes.with_name(".draft")
    draft.write_text(by(routes.read_text()))
    draft.replace(routes)


@pytest.mark.usefixtures("mesh")
def test_the_page_shows_what_details_and_reviews_say() -> None:
    page = Browser().get(PAGE)

    assert "Every missed connection cost Fogg an hour" in page
    assert "currently unavailable" not in page


@pytest.mark.usefixtures("mesh")
def test_jason_is_sent_to_v2_and_sees_black_stars() -> None:
    jason, other = Browser(), Browser()

    jason.sign_in("jason")
    other.sign_in("ines")

    assert {jason.reviews_version() for _ in range(10)} == {"v2"}
    assert "v2" not in {other.reviews_version() for _ in range(10)}


def test_every_hop_is_mutual_tls_between_the_identities_of_the_services(mesh: LaptopMesh) -> None:
    Browser().get(PAGE)
    browser = Browser()
    browser.sign_in("jason")
    browser.get(PAGE)

    metrics = browser.get(mesh.addresses["metrics", "waypoint default/waypoint"])
    seen = {
        (labels["source_principal"], labels["destination_principal"], labels["connection_security_policy"])
        for labels, _ in samples(metrics, "istio_requests_total")
        if labels["response_code"] == "200"
    }

    def principal(service_account: str) -> str:
        return f"spiffe://cluster.local/ns/default/sa/{service_account}"

    assert seen >= {
        (principal("ingress"), principal("bookinfo-productpage"), "mutual_tls"),
        (principal("bookinfo-productpage"), principal("bookinfo-details"), "mutual_tls"),
        (principal("bookinfo-productpage"), principal("bookinfo-reviews"), "mutual_tls"),
        (principal("bookinfo-reviews"), principal("bookinfo-ratings"), "mutual_tls"),
    }


def test_every_program_is_reached_only_by_the_waypoint(mesh: LaptopMesh) -> None:
    browser = Browser()
    browser.get(PAGE)

    metrics = browser.get(mesh.addresses["metrics", "ztunnel"])
    sources = {
        labels["source_principal"]
        for labels, _ in samples(metrics, "istio_tcp_connections_opened_total")
        if labels["reporter"] == "destination"
    }

    assert sources == {"spiffe://cluster.local/ns/default/sa/waypoint"}


def test_the_access_log_has_a_line_per_request(mesh: LaptopMesh) -> None:
    Browser().get(PAGE)
    log = mesh.folder / "run" / "logs" / "waypoint.default.waypoint-access.log"

    until(lambda: '"GET /details/0 HTTP/1.1" 200 - via_upstream' in log.read_text(), seconds=2)


@pytest.mark.usefixtures("mesh", "original_routes")
def test_a_saved_edit_moves_traffic_within_a_second_and_fails_no_request_of_a_load(routes: Path) -> None:
    versions: list[str] = []
    failures: list[Exception] = []
    end = time.monotonic() + LOAD_SECONDS

    def load() -> None:
        browser = Browser()
        while time.monotonic() < end:
            try:
                versions.append(browser.reviews_version())
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    replaced(routes, lambda text: text.replace("weight: 90", "weight: 0").replace("weight: 10", "weight: 100"))
    saved = time.monotonic()
    until(lambda: versions[-20:] == ["v3"] * 20, seconds=1)
    moved = time.monotonic() - saved
    for thread in threads:
        thread.join()

    assert failures == []
    assert moved < 1
    assert set(versions[-20:]) == {"v3"}


@pytest.mark.usefixtures("original_routes")
def test_a_broken_edit_leaves_the_last_good_routes_in_force(mesh: LaptopMesh, routes: Path) -> None:
    browser = Browser()
    browser.sign_in("jason")

    replaced(routes, lambda text: text + "\n  broken: [")
    until(lambda: f"{routes}:" in mesh.said, seconds=2)

    assert browser.reviews_version() == "v2"


@pytest.mark.usefixtures("original_routes")
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: reviews-v1", "name: reviews-v9", "reviews-v9"),
        ("weight: 90", "weight: -1", "weight"),
        ("weight: 90", "weight: lots", "weight"),
        ("backendRefs:", "backendRef:", "backendRef"),
        ("name: reviews, port: 9080}", "name: revews, port: 9080}", "revews"),
    ],
)
def test_the_terminal_says_what_is_wrong_with_an_edit_and_when_it_is_mended(
    mesh: LaptopMesh, routes: Path, old: str, new: str, said: str
) -> None:
    good = routes.read_text()
    assert old in good
    before = len(mesh.said)

    replaced(routes, lambda text: text.replace(old, new))
    until(lambda: re.search(rf"^{routes}:\d+: .*{said}", mesh.said[before:], re.MULTILINE) is not None, seconds=5)
    replaced(routes, lambda _: good)
    until(lambda: f"resolved: {routes}:" in mesh.said[before:], seconds=5)

    problems = [line for line in mesh.said[before:].splitlines() if line.startswith(str(routes)) and said in line]
    assert len(problems) == len(set(problems))


@pytest.mark.usefixtures("original_routes")
def test_the_terminal_says_what_became_live(mesh: LaptopMesh, routes: Path) -> None:
    before = len(mesh.said)

    replaced(routes, lambda text: text.replace("weight: 90", "weight: 80"))

    until(lambda: "live: changed HTTPRoute default/reviews" in mesh.said[before:], seconds=5)


# -- scenarios -------------------------------------------------------------------------------------------------------


def play(mesh: LaptopMesh, routes: Path, name: str) -> None:
    """Put a scenario in the routes' place, and wait until it is in force and its programs run."""
    scenario = (BOOKINFO / "scenarios" / f"{name}.yaml").read_text()
    replaced(routes, lambda _: scenario)
    until(lambda: live(mesh) == wanted(mesh, routes), seconds=10)
    until(lambda: all(serves(mesh, pod) for pod in pods(scenario)), seconds=15)


def pods(scenario: str) -> list[str]:
    """The pods of a scenario's own Deployments."""
    deployments = [it for it in yaml.safe_load_all(scenario) if it["kind"] == "Deployment"]
    return [f"{it['metadata']['name']}-{index}" for it in deployments for index in range(it["spec"]["replicas"])]


def serves(mesh: LaptopMesh, pod: str) -> bool:
    """Whether the waypoint knows that it is ready."""
    overlay = yaml.safe_load_all((mesh.folder / "run" / "overlay" / "mesh.yaml").read_text())
    addresses = {it["metadata"]["name"]: it["status"]["podIP"] for it in overlay if it["kind"] == "Pod"}
    return pod in addresses and f'"{addresses[pod]}:' in config_dump(mesh)


def config_dump(mesh: LaptopMesh) -> str:
    return Browser().get(mesh.addresses["admin", "waypoint default/waypoint"] + "config_dump")


def live(mesh: LaptopMesh) -> object:
    """What the waypoint does, but for who is there to do it."""
    return decisions(json.loads(config_dump(mesh)))


def wanted(mesh: LaptopMesh, routes: Path) -> object:
    """What it shall do by the files. A line about a new configuration could be about the last edit, or about a pod."""
    paths = [BOOKINFO / "platform", BOOKINFO / "gateway.yaml", routes, mesh.folder / "run" / "overlay"]
    loaded = load(paths, ("default", "waypoint"), Settings())
    return decisions(json.loads(json.dumps(dump(loaded.snapshots["default", "waypoint"]), default=str)))


def decisions(dumped: dict[str, Any]) -> object:
    clusters = {name: {**it, "endpoints": None} for name, it in dumped["clusters"].items()}
    return dumped["destinations"], clusters


def status(url: str | urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.usefixtures("original_routes")
def test_a_delay_for_jason_is_felt_by_him_alone(mesh: LaptopMesh, routes: Path) -> None:
    play(mesh, routes, "delay-for-jason")
    jason, other = Browser(), Browser()

    page = jason.sign_in("jason")
    others = other.sign_in("ines")

    assert "Ratings are currently unavailable" in page
    assert "unavailable" not in others


@pytest.mark.usefixtures("original_routes")
def test_broken_ratings_leave_a_page_without_stars(mesh: LaptopMesh, routes: Path) -> None:
    play(mesh, routes, "broken-ratings")

    page = Browser().sign_in("jason")

    assert "Ratings are currently unavailable (status 500)" in page
    assert "Every missed connection cost Fogg an hour" in page


@pytest.mark.usefixtures("original_routes")
def test_retries_hide_flaky_reviews(mesh: LaptopMesh, routes: Path) -> None:
    play(mesh, routes, "flaky-reviews")

    assert [status(REVIEWS) for _ in range(20)] == [200] * 20


@pytest.mark.usefixtures("original_routes")
def test_a_circuit_breaker_opens_under_load_and_closes_after_it(mesh: LaptopMesh, routes: Path) -> None:
    play(mesh, routes, "circuit-breaker")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(status, [REVIEWS] * 8))

    assert answers.count(200) >= 2
    assert answers.count(503) >= 4
    assert status(REVIEWS) == 200


@pytest.mark.usefixtures("original_routes")
def test_a_broken_replica_is_left_alone(mesh: LaptopMesh, routes: Path) -> None:
    play(mesh, routes, "broken-replica")

    answers = [status(REVIEWS) for _ in range(40)]

    assert answers[-20:] == [200] * 20
    assert answers.count(503) <= 3


@pytest.mark.usefixtures("original_routes")
def test_a_mirror_gets_a_copy_of_every_request(mesh: LaptopMesh, routes: Path) -> None:
    play(mesh, routes, "mirror")
    log = mesh.folder / "run" / "logs" / "waypoint.default.waypoint-access.log"
    before = log.read_text().count("GET /ratings/0 ")

    assert {Browser().reviews_version() for _ in range(5)} == {"v1"}

    until(lambda: log.read_text().count("GET /ratings/0 ") == before + 5, seconds=20)


@pytest.mark.usefixtures("original_routes")
def test_services_answer_those_who_need_them_and_nobody_else(mesh: LaptopMesh, routes: Path) -> None:
    assert status(f"http://{DETAILS}/details/0") == 200
    play(mesh, routes, "only-who-needs-it")

    page = Browser().sign_in("jason")

    assert "unavailable" not in page
    assert status(f"http://{DETAILS}/details/0") == 403
    assert status(f"http://{RATINGS}/ratings/0") == 403


@pytest.mark.usefixtures("original_routes")
def test_a_policy_on_trial_refuses_nobody_and_says_whom_it_would(mesh: LaptopMesh, routes: Path) -> None:
    play(mesh, routes, "on-trial")

    page = Browser().sign_in("jason")

    assert "unavailable" not in page
    metrics = Browser().get(mesh.addresses["metrics", "waypoint default/waypoint"])
    trials = samples(metrics, "pywaypoint_authorization_dry_run_total")
    assert [labels["authz_dry_run_result"] for labels, count in trials if count] == ["denied"]


@pytest.mark.usefixtures("original_routes")
def test_who_is_an_admin_may_rate(mesh: LaptopMesh, routes: Path) -> None:
    play(mesh, routes, "admins-rate")
    ann, bob = re.findall(r"eyJ\S+", routes.read_text())

    assert status(f"http://{RATINGS}/ratings/0") == 200
    assert [rated(ann), rated(bob), rated(""), rated(ann[:-4] + "AAAA")] == [405, 403, 403, 401]


def rated(token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return status(urllib.request.Request(f"http://{RATINGS}/ratings/0", b"{}", headers))


SHOWN = re.findall(
    r"^cp examples/bookinfo/scenarios/([a-z-]+)\.yaml \S+\n(.*?)^```\n\n((?:    [^\n]*\n)+)",
    (BOOKINFO / "README.md").read_text(),
    re.DOTALL | re.MULTILINE,
)
"""Of each scenario in the README: its name, the commands that show it, and what they print among other things."""


@pytest.mark.usefixtures("original_routes")
@pytest.mark.parametrize(("name", "commands", "shown"), SHOWN, ids=[name for name, _, _ in SHOWN])
def test_the_commands_of_the_readme_show_what_it_says(
    mesh: LaptopMesh, routes: Path, name: str, commands: str, shown: str
) -> None:
    play(mesh, routes, name)

    printed = mesh.shell(commands.replace("examples/bookinfo/routes.yaml", str(routes)))

    for line in shown.splitlines():
        assert line.strip() in printed


@pytest.mark.usefixtures("original_routes")
def test_a_page_is_whole_but_for_its_reviews_when_these_are_limited(mesh: LaptopMesh, routes: Path) -> None:
    """Last, because what is used up of a limit stays used up for the minute."""
    play(mesh, routes, "five-a-minute")

    pages = [Browser().get(PAGE) for _ in range(6)]

    assert "Status 429 from reviews" in pages[-1]
    assert not any("Book details are currently unavailable" in page for page in pages)


def commands_of_documents() -> Iterator[ParameterSet]:
    """Each block of commands but the scenarios', which are played above."""
    for page in (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")), BOOKINFO / "README.md"):
        for number, block in enumerate(re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)):
            if "cp examples/bookinfo/scenarios" not in block:
                yield pytest.param(block, id=f"{page.relative_to(TOP)}-{number}")


@pytest.mark.parametrize("commands", list(commands_of_documents()))
def test_the_commands_of_a_document_run_beside_bookinfo(mesh: LaptopMesh, commands: str) -> None:
    mesh.shell(commands)


def test_every_scenario_is_shown() -> None:
    assert {name for name, _, _ in SHOWN} == {it.stem for it in (BOOKINFO / "scenarios").glob("*.yaml")}
