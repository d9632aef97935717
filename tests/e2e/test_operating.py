"""The commands that ask running programs, against one laptop mesh that they find by themselves."""

import asyncio
import json
import re
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from l4.asking import laptop
from l4.ztunnel.cli import cli as ztunnel_cli
from tests.kit.laptop import environment, mesh_up
from tests.waypoint.mesh.test_up import WEB, written
from waypoint.cli import cli as waypoint_cli
from waypoint.mesh import call as calls
from waypoint.mesh import state
from waypoint.mesh.running import RunningPod, find

pytestmark = pytest.mark.timeout(300)  # one laptop mesh runs at a time: others may have to finish first
WAYPOINT = """
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: pywaypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules:
  - matches: [{path: {value: /programs.yaml}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: authorization, value: Basic aHVzaA}]}}]
    backendRefs: [{name: web, port: 8080}]
  - backendRefs: [{name: web, port: 8080}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-manifests}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  action: DENY
  rules: [{to: [{operation: {paths: [/manifests.yaml]}}]}]
---
apiVersion: v1
kind: Secret
metadata: {name: credentials}
data: {tls.key: aHVzaA}
"""


@dataclass
class Commands:
    """Commands of a user who runs a laptop mesh."""

    folder: Path

    def waypoint(self, *args: str, status: int = 0) -> str:
        return self._run(waypoint_cli, args, status)

    def ztunnel(self, *args: str, status: int = 0) -> str:
        return self._run(ztunnel_cli, args, status)

    def json(self, *args: str, command: str = "waypoint") -> Any:
        return json.loads(getattr(self, command)(*args, "-o", "json"))

    @property
    def pod(self) -> RunningPod:
        return find(laptop.folder(environment(self.folder)), "web")

    def call(self, path: str = "/", count: int = 1) -> None:
        """Send requests to the Service as its own pod."""
        request = calls.Request("GET", f"web:8080{path}", (("x-kind", "test"),))
        answers = asyncio.run(calls.call(self.pod, request, count))
        assert all(it.status for it in answers)

    @contextmanager
    def connection(self) -> Iterator[None]:
        """A connection of the pod on which it sends nothing."""
        service = self.pod.services["web"]
        with socket.create_connection((service.address, service.port)):
            yield

    def _run(self, command: click.Command, args: tuple[str, ...], status: int) -> str:
        result: Result = CliRunner().invoke(command, args, env=environment(self.folder))
        assert result.exit_code == status, result.output
        return result.output


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("mesh")
    with mesh_up(folder, *written(folder, WEB + WAYPOINT)):
        yield Commands(folder)


@pytest.fixture
def requests(commands: Commands) -> Iterator[None]:
    """Somebody sends requests all the time."""
    is_over = threading.Event()

    def send() -> None:
        while not is_over.is_set():
            commands.call("/programs.yaml?token=secret")
            commands.call("/nothing")

    sender = threading.Thread(target=send)
    sender.start()
    yield
    is_over.set()
    sender.join()


def test_status_says_whether_both_programs_are_ready(commands: Commands) -> None:
    text = commands.waypoint("status")
    (found,) = commands.json("status")

    assert text.startswith("default/waypoint: ready\n")
    assert "\n  gateway        default/waypoint\n" in text
    assert (found["program"], found["ready"], found["problems"]) == ("waypoint", True, 0)
    assert commands.ztunnel("status").startswith("ztunnel: ready\n")
    assert yaml.safe_load(commands.ztunnel("status", "-o", "yaml"))[0]["pods"] == 1


def test_a_drain_is_told_by_the_status_until_it_is_taken_back(commands: Commands) -> None:
    assert "draining" in commands.waypoint("drain")
    during = commands.waypoint("status", status=1)
    (undone,) = commands.json("drain", "--undo")
    assert undone == {"name": "default/waypoint", "done": True, "said": "no longer draining"}

    assert during.startswith("default/waypoint: not ready, pending: draining\n  ! draining since ")
    commands.waypoint("status")
    assert "exclude each other" in commands.waypoint("drain", "--undo", "--stop", status=2)


@pytest.mark.usefixtures("requests")
def test_tap_shows_requests_that_match_without_their_secrets(commands: Commands) -> None:
    text = commands.waypoint("tap", "--count", "2", "--status", "2xx")
    (line,) = commands.waypoint(
        "tap", "--count", "1", "--path", "/nothing", "--show", "x-kind", "-o", "json"
    ).splitlines()
    (document,) = yaml.safe_load_all(commands.waypoint("tap", "--count", "1", "-H", "x-kind:te*", "-o", "yaml"))

    for it in text.splitlines():
        assert " 200 " in it
        assert "default/web → web.default:8080 (web) GET /programs.yaml?token=(redacted) route=default.web.0" in it
    found = json.loads(line)
    assert (found["status"], found["route"]) == (404, "default.web.1")
    assert found["headers"] == [["x-kind", "test"]]
    assert document["destination"]["service"] == "web.default.svc.cluster.local"


@pytest.mark.usefixtures("requests")
def test_top_shows_rates_by_route(commands: Commands) -> None:
    text = commands.waypoint("top", "--count", "1", "--interval", "0.4")
    line = json.loads(commands.waypoint("top", "--count", "1", "--by", "source", "--status", "404", "-o", "json"))

    heading, *rows = text.splitlines()
    assert heading.split() == ["DESTINATION", "ROUTE", "RPS", "ERRORS", "P50", "P90", "P99", "STATUSES"]
    assert {it.split()[1] for it in rows if it} == {"default.web.0", "default.web.1"}
    assert line["rows"][0]["source"] == "default/web"
    assert line["rows"][0]["statuses"].keys() == {"4xx"}


def test_routes_are_shown_in_order_and_chosen_by_a_column(commands: Commands) -> None:
    heading, first, second = commands.waypoint("routes", "-w", "service=web.*").splitlines()

    assert heading.split()[:5] == ["SERVICE", "PORT", "PROTOCOL", "FOR", "ROUTE"]
    assert "default.web.0  PREFIX /programs.yaml  web.default:8080" in first
    assert "default.web.1  PREFIX /" in second
    assert commands.waypoint("routes", "-w", "service=other") == "none\n"
    assert commands.json("routes", "-w", "order=1")[0]["source"] == "HTTPRoute default/web rules[1]"
    assert "there is no column 'colour'" in commands.waypoint("routes", "-w", "colour=red", status=2)


def test_policies_are_shown_with_their_hits(commands: Commands) -> None:
    commands.call("/manifests.yaml", count=3)

    assert commands.json("policies")[0]["hits"] == {"denied": 3}
    assert "default/no-manifests  DENY    1      web.default  denied=3" in commands.waypoint("policies")


def test_endpoints_connections_and_certificates_are_shown(commands: Commands) -> None:
    commands.call()

    (endpoint,) = commands.json("endpoints")
    assert (endpoint["service"], endpoint["status"]) == ("web.default.svc.cluster.local", "ready")
    assert " ready " in commands.waypoint("endpoints")
    assert {it["direction"] for it in commands.json("connections")} == {"downstream", "upstream"}
    assert "spiffe://cluster.local/ns/default/sa/default" in commands.waypoint("connections")
    assert [it["kind"] for it in commands.json("certificates")] == ["leaf", "root"]
    assert " leaf  valid " in commands.waypoint("certificates")


@pytest.mark.parametrize(
    ("name", "heading", "shown"),
    [
        ("workloads", "NAMESPACE  POD NAME  ADDRESS", "default    web-0"),
        ("services", "NAMESPACE  SERVICE NAME  SERVICE VIP", "default    web "),
        ("policies", "none", ""),
        ("certificates", "CERTIFICATE NAME", "spiffe://cluster.local/ns/default/sa/default  Leaf  Available"),
        ("connections", "WORKLOAD", "web-0.default  outbound"),
    ],
)
def test_the_tables_of_a_ztunnel_are_shown(commands: Commands, name: str, heading: str, shown: str) -> None:
    with commands.connection():
        text = commands.ztunnel(name)

    assert text.startswith(heading)
    assert shown in text
    assert isinstance(commands.json(name, command="ztunnel"), list)


def test_the_mesh_tells_what_runs_and_where_its_logs_are(commands: Commands) -> None:
    rows = commands.json("mesh", "status")

    assert [(it["name"], it["kind"], it["state"]) for it in rows] == [
        ("ztunnel", "ztunnel", "ready"),
        ("default/waypoint", "waypoint", "ready"),
        ("default/web-0", "program", "ready"),
    ]
    assert "default/web-0     program   default/web-0" in commands.waypoint("mesh", "status")


def test_logs_of_the_mesh_are_printed_by_name(commands: Commands) -> None:
    commands.call("/nothing")

    text = commands.waypoint("mesh", "logs", "web", "--tail", "1000")
    access = commands.waypoint("mesh", "logs", "ztunnel", "--access")
    both = commands.waypoint("mesh", "logs", "web-0", "waypoint", "--tail", "1")

    assert '"GET /nothing HTTP/1.1" 404' in text
    assert "connection complete" in access
    assert {it.split()[0] for it in both.splitlines()} == {"default/web-0", "default/waypoint"}
    assert "the mesh has no other that writes a log; it has" in commands.waypoint("mesh", "logs", "other", status=1)


def test_new_lines_of_a_log_are_followed(commands: Commands) -> None:
    place = laptop.folder(environment(commands.folder))
    found = state.logs(place, ["web"], has_access=False)
    lines = state.follow(found, 0, is_followed=True)
    commands.call("/before")  # nothing was read yet: these lines are old

    following = threading.Timer(0.5, commands.call, ["/followed"])
    following.start()
    text = next(line for _, line in lines if "GET" in line)
    following.join()

    assert "/followed" in text


def test_load_is_sent_at_a_constant_rate_and_summed_up(commands: Commands) -> None:
    args = ["mesh", "load", "web:8080/programs.yaml", "--as", "web", "--rate", "50", "--duration", "0.4"]

    text = commands.waypoint(*args)
    found = commands.json(*args)
    failed = commands.waypoint("mesh", "load", "web:8080/", "--as", "other", status=1)

    assert " 20 × 200" in text
    assert re.search(r"^20 requests in \d\.\d s, ", text, re.MULTILINE)
    last_begins = 19 / 50
    assert last_begins <= found["seconds"] <= last_begins + found["max_ms"] / 1000 + 0.5  # the machine may be busy
    assert found["statuses"] == {"200": 20}
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]
    assert "the mesh has no pod other; it has web" in failed


def test_a_call_is_shown_in_each_form(commands: Commands) -> None:
    call = ["mesh", "call", "web:8080/programs.yaml", "--as", "web"]

    assert commands.waypoint(*call).startswith("HTTP/1.1 200 OK\n")
    assert commands.json(*call)[0]["status"] == 200
    assert yaml.safe_load(commands.waypoint(*call, "-o", "yaml"))[0]["status"] == 200


def test_the_running_configuration_is_compared_with_files_and_waypoints(commands: Commands, tmp_path: Path) -> None:
    manifests = commands.folder / "manifests.yaml"
    (tmp_path / "other.yaml").write_text(manifests.read_text().replace("/programs.yaml", "/programs"))
    admin = commands.json("mesh", "status")[1]["address"]

    same = commands.waypoint("config", "diff", "--resources", str(manifests))
    text = commands.waypoint("config", "diff", "--resources", str(tmp_path), status=1)
    found = json.loads(commands.waypoint("config", "diff", "--resources", str(tmp_path), "-o", "json", status=1))

    assert same == "nothing differs between default/waypoint and what is in these files\n"
    assert "--- destinations/web.default.svc.cluster.local:8080 of default/waypoint" in text
    assert "\n-- path: PREFIX /programs.yaml\n+- path: PREFIX /programs\n" in text
    assert [(it["name"], it["change"]) for it in found] == [("web.default.svc.cluster.local:8080", "changed")]
    commands.waypoint("config", "diff", "--against", admin)
    assert "use one of --resources" in commands.waypoint("config", "diff", status=2)


def test_a_bug_report_has_what_a_maintainer_asks_for_and_no_secrets(commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"

    text = commands.waypoint("bug-report", "-f", str(path))

    with tarfile.open(path) as archive:
        files = {it.name.removeprefix("bug-report/"): archive.extractfile(it).read() for it in archive}  # type: ignore[union-attr]
    assert f"{path} is written: " in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert files["failures.txt"] == b""
    assert json.loads(files["machine.json"])["python"] == sys.version
    own = "programs/waypoint/default.waypoint"
    assert json.loads(files[f"{own}/status.json"])["gateway"] == "default/waypoint"
    assert json.loads(files[f"{own}/config_dump.json"])["destinations"]
    assert b"istio_requests_total" in files[f"{own}/metrics.txt"]
    assert b"accepts HBONE" in files[f"{own}/log.txt"]
    assert json.loads(files["programs/ztunnel/ztunnel/config_dump.json"])["workloads"]
    assert json.loads(files["objects/HTTPRoute.json"])[0]["metadata"]["name"] == "web"
    assert "objects/Secret.json" not in files
    assert [name for name, it in files.items() if b"aHVzaA" in it or b"PRIVATE KEY" in it] == []


def test_a_bug_report_of_what_does_not_answer_says_so(commands: Commands, tmp_path: Path) -> None:
    text = commands.waypoint("bug-report", "--admin", "127.0.0.1:1", "-f", str(tmp_path / "report"))
    refused = commands.waypoint("bug-report", "--admin", "127.0.0.1:1", "-f", "/nowhere/report", status=1)

    assert "not collected: 127.0.0.1:1/status: the administration port of 127.0.0.1:1 cannot be reached" in text
    assert "cannot be written: No such file or directory" in refused


def test_the_running_waypoint_explains_a_request(commands: Commands) -> None:
    text = commands.waypoint("explain", "--to", "web:8080", "--path", "/programs.yaml")

    found = yaml.safe_load(commands.waypoint("explain", "waypoint", "--to", "web:8080", "-o", "yaml"))
    assert "HTTPRoute default/web rules[0]" in text.splitlines()[0]
    assert "HTTPRoute default/web rules[1]" in found["summary"]


def test_the_log_level_of_a_running_program_is_changed(commands: Commands) -> None:
    assert commands.waypoint("log-level") == "default/waypoint: log level is info\n"
    assert commands.waypoint("log-level", "--set", "debug") == "default/waypoint: log level is now debug\n"
    commands.waypoint("log-level", "--set", "info")
    assert commands.ztunnel("log-level") == "ztunnel: log level is info\n"
    assert commands.json("log-level") == [{"name": "default/waypoint", "done": True, "said": "log level is info"}]


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["status", "other"], 1, "Error: the laptop mesh has no waypoint other; it has default/waypoint\n"),
        (["routes", "--admin", "127.0.0.1:1"], 1, "Error: the administration port of 127.0.0.1:1 cannot be reached"),
        (["tap", "--status", "many"], 1, "status 'many' is not of the form 503, 5xx"),
        (["top", "--by", ""], 1, "requests cannot be grouped by ''"),
        (["top", "--by", "colour"], 1, "requests cannot be grouped by 'colour'"),
        (["routes", "x", "--admin", "127.0.0.1:1"], 2, "--admin names one program"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_sentence(
    commands: Commands, args: list[str], status: int, said: str
) -> None:
    assert said in commands.waypoint(*args, status=status)


@pytest.mark.parametrize("name", ["workloads", "services", "policies", "certificates", "connections"])
def test_a_waypoint_that_is_asked_as_a_ztunnel_says_so(commands: Commands, name: str) -> None:
    (found,) = laptop_of(commands, "waypoint")

    assert commands.ztunnel(name, "--admin", found, status=1) == (
        f"Error: {found} is no ztunnel: check that it is the administration port of one\n"
    )


def test_a_ztunnel_that_is_asked_as_a_waypoint_says_so(commands: Commands) -> None:
    (waypoint,), (ztunnel,) = laptop_of(commands, "waypoint"), laptop_of(commands, "ztunnel")

    for sides in (("--admin", ztunnel, "--against", waypoint), ("--admin", waypoint, "--against", ztunnel)):
        said = commands.waypoint("config", "diff", *sides, status=1)
        assert said == f"Error: {ztunnel} is no waypoint: check that it is the administration port of one\n"
    for name in ("routes", "endpoints", "policies", "connections", "certificates", "tap", "top", "drain"):
        assert "the right program (404)" in commands.waypoint(name, "--admin", ztunnel, status=1), name


def laptop_of(commands: Commands, program: str) -> list[str]:
    place = laptop.folder(environment(commands.folder))
    return [it.admin for it in laptop.proxies(place) if it.program == program]
