"""The `ztunnel` command as a process."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from l4.net.copy import reset_on_close
from tests.kit.certificates import MeshPki
from tests.kit.failing import vital_loops
from tests.kit.workloads import LOOPBACK

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: client
  namespace: default
  annotations: {{ambient.istio.io/redirection: enabled, pywaypoint.dev/outbound-capture: "{listen}={to}"}}
spec: {{nodeName: here, serviceAccountName: client}}
status: {{podIP: {address}, phase: Running}}
"""
ADDRESS = str(LOOPBACK[0xFF01])
LISTEN = (str(LOOPBACK[0xFF02]), 8080)
ENTRANCE = (str(LOOPBACK[0xFF04]), 8080)
DENY = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec: {action: DENY, rules: [{}]}
"""
LISTEN_AFTER = (str(LOOPBACK[0xFF03]), 8080)


class Ztunnel:
    """A running one, which captures LISTEN for a destination outside the mesh: `outside`, which has accepted nobody."""

    def __init__(
        self, folder: Path, process: subprocess.Popen[bytes], outside: socket.socket, ports: list[int]
    ) -> None:
        self.folder = folder
        self.process = process
        self.outside = outside
        self.metrics, self.readiness, self.admin = (f"http://127.0.0.1:{port}" for port in ports)

    def ready(self) -> int:
        try:
            with urllib.request.urlopen(f"{self.readiness}/healthz/ready", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def readiness_text(self) -> str:
        try:
            with urllib.request.urlopen(f"{self.readiness}/healthz/ready", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()
        except OSError:
            return ""

    def failed_loops(self) -> dict[str, int]:
        found = re.findall(r'^pywaypoint_loop_failures_total{loop="(.*)"} (\d+)$', self.metrics_text(), re.MULTILINE)
        return {name: int(count) for name, count in found}

    def number(self, name: str) -> float:
        found = re.search(rf"^{name}\S* (\S+)$", self.metrics_text(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def metrics_text(self) -> str:
        with urllib.request.urlopen(f"{self.metrics}/stats/prometheus", timeout=5) as answer:
            return str(answer.read().decode())

    def carried(self) -> tuple[socket.socket, socket.socket]:
        """Both ends of a connection that the ztunnel carries."""
        client = socket.create_connection(LISTEN, timeout=5)
        server, _ = self.outside.accept()
        server.settimeout(5)
        return client, server


def _command(folder: Path, ports: list[int], *more: str) -> list[str]:
    operators = zip(("--metrics", "--readiness", "--admin"), ports, strict=True)
    return [
        *(sys.executable, "-m", "l4.ztunnel.cli", "run", "--node", "here"),
        *("--resources", str(folder / "pod.yaml"), "--certificates", str(folder)),
        *("--trust-bundle", str(folder / "root.pem"), "--access-log", str(folder / "access.log")),
        *(word for name, port in operators for word in (name, f"127.0.0.1:{port}")),
        *more,
    ]


@contextmanager
def running(folder: Path, *more: str, prefix: tuple[str, ...] = (), **settings: str) -> Iterator[Ztunnel]:
    """Nobody reads what it prints. The `prefix` comes before the command."""
    with socket.create_server(("127.0.0.1", 0)) as outside:
        outside.settimeout(5)
        _write_files(folder, outside)
        ports = _free_ports(3)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [*prefix, *_command(folder, ports, *more)]
        with subprocess.Popen(command, env=os.environ | settings, **pipes) as process:
            ztunnel = Ztunnel(folder, process, outside, ports)
            try:
                _until(lambda: ztunnel.ready() == 200)
                yield ztunnel
            finally:
                process.kill()


def _write_files(folder: Path, outside: socket.socket) -> None:
    pki = MeshPki(folder)
    pki.write(pki.identity("default", "client"))
    to = f"127.0.0.1:{outside.getsockname()[1]}"
    (folder / "pod.yaml").write_text(POD.format(address=ADDRESS, listen=f"{LISTEN[0]}:{LISTEN[1]}", to=to))


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        ("", "there are no objects in"),
        ("here", "there is no Node heer and no pod on it; did you mean here?; see --node"),
        ("elsewhere", "there is no Node heer and no pod on it; known nodes: elsewhere; see --node"),
    ],
)
def test_where_it_has_nothing_to_serve_it_says_why_and_is_not_ready(tmp_path: Path, pod: str, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        _write_files(tmp_path, outside)
        path, ports = tmp_path / "pod.yaml", _free_ports(3)
        path.write_text(path.read_text().replace("nodeName: here", f"nodeName: {pod}") if pod else "# nothing\n")
        command = [word if word != "here" else "heer" for word in _command(tmp_path, ports)]
        with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE) as process:
            try:
                ztunnel = Ztunnel(tmp_path, process, outside, ports)
                _until(lambda: reason in ztunnel.readiness_text())

                assert ztunnel.ready() == 503
            finally:
                process.kill()


def test_a_policy_it_never_understood_lets_nobody_in(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside, socket.create_server((ADDRESS, 9080)) as app:
        _write_files(tmp_path, outside)
        pod, ports = tmp_path / "pod.yaml", _free_ports(3)
        capture = f'pywaypoint.dev/inbound-capture: "{ENTRANCE[0]}:{ENTRANCE[1]}=9080", '
        text = pod.read_text().replace("annotations: {", "annotations: {" + capture)
        pod.write_text(text + DENY.replace("AuthorizationPolicy", "Authorizationpolicy"))
        app.settimeout(0.5)
        with subprocess.Popen(_command(tmp_path, ports), env=os.environ, stderr=subprocess.PIPE) as process:
            try:
                ztunnel = Ztunnel(tmp_path, process, outside, ports)
                _until(lambda: "did you mean AuthorizationPolicy?" in ztunnel.readiness_text())
                _until(lambda: _accepts(ENTRANCE))
                assert _cuts_off(ENTRANCE)
                status = ztunnel.ready()
                pod.write_text(text)
                _until(lambda: ztunnel.ready() == 200)
                app.settimeout(5)
                with socket.create_connection(ENTRANCE, timeout=5) as client, _spoken_to(client, app):
                    pass
            finally:
                process.kill()

    assert status == 503


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def _until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_serves_shows_its_configuration_and_ends_when_asked(tmp_path: Path) -> None:
    with running(tmp_path) as ztunnel:
        client, server = ztunnel.carried()
        with client, server:
            client.sendall(b"hello")
            heard = server.recv(16)
        with urllib.request.urlopen(f"{ztunnel.admin}/config_dump", timeout=5) as answer:
            dump = answer.read().decode()
        with urllib.request.urlopen(f"{ztunnel.metrics}/stats/prometheus", timeout=5) as answer:
            metrics = answer.read().decode()

        ztunnel.process.send_signal(signal.SIGTERM)

        assert ztunnel.process.wait(10) == 0
        assert heard == b"hello"
        assert ADDRESS in dump
        assert 'istio_tcp_connections_opened_total{reporter="source",source_workload="client"' in metrics
        assert 'direction="outbound"' in (tmp_path / "access.log").read_text()


def test_what_nobody_calls_any_more_leaves_the_scrape_and_an_open_connection_does_not(tmp_path: Path) -> None:
    opened = "istio_tcp_connections_opened_total"
    with running(tmp_path, METRICS_EXPIRY_SECONDS="1") as ztunnel:
        client, server = ztunnel.carried()
        with client, server:
            time.sleep(3)
            assert ztunnel.number(opened) == 1
            client.sendall(b"late")
            assert server.recv(16) == b"late"
        _until(lambda: ztunnel.number("istio_tcp_connections_closed_total") == 1)
        assert ztunnel.number("istio_tcp_received_bytes_total") == 4

        _until(lambda: opened + "{" not in ztunnel.metrics_text())

        assert "istio_tcp_connections_closed_total{" not in ztunnel.metrics_text()


def test_each_vital_loop_that_fails_comes_back(tmp_path: Path) -> None:
    with running(tmp_path, prefix=(sys.executable, "-m", "tests.kit.failing")) as ztunnel:
        loops = vital_loops("l4/ztunnel") - {"following the node's agent"}  # pods on addresses of a machine have none
        _until(lambda: ztunnel.failed_loops() == dict.fromkeys(loops, 1))

        pki = MeshPki(tmp_path)
        identity = pki.identity("default", "client")
        pki.write(identity, pki.leaf([str(identity)], ends=timedelta(hours=9)))
        _until(lambda: ztunnel.number("istio_cert_expiry_seconds") > 8 * 3600)
        resources = tmp_path / "pod.yaml"
        resources.write_text(resources.read_text().replace(LISTEN[0], LISTEN_AFTER[0]))
        _until(lambda: _accepts(LISTEN_AFTER))
        _until(lambda: ztunnel.readiness_text() == "ready\n", 30)

        assert ztunnel.failed_loops() == dict.fromkeys(loops, 1)


def test_told_to_stop_it_is_not_ready_takes_nobody_new_and_lets_connections_finish(tmp_path: Path) -> None:
    with running(tmp_path, DRAIN_SECONDS="20") as ztunnel:
        client, server = ztunnel.carried()
        with client, server:
            ztunnel.process.send_signal(signal.SIGTERM)
            _until(lambda: ztunnel.ready() == 503)
            _until(lambda: not _accepts(LISTEN))
            client.sendall(b"late")
            heard = server.recv(16)

        assert heard == b"late"
        assert ztunnel.process.wait(10) == 0


def test_what_does_not_finish_in_time_is_cut(tmp_path: Path) -> None:
    with running(tmp_path, DRAIN_SECONDS="0.2") as ztunnel:
        client, server = ztunnel.carried()
        with client, server:
            ztunnel.process.send_signal(signal.SIGTERM)

            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert ztunnel.process.wait(10) == 0


def test_it_follows_the_configuration_while_it_drains(tmp_path: Path) -> None:
    with running(tmp_path, DRAIN_SECONDS="60") as ztunnel:
        client, server = ztunnel.carried()
        with client, server:
            ztunnel.process.send_signal(signal.SIGTERM)
            _until(lambda: ztunnel.ready() == 503)

            resources = tmp_path / "pod.yaml"
            resources.write_text(resources.read_text().replace("nodeName: here", "nodeName: elsewhere"))

            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert ztunnel.process.wait(10) == 0


def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, DRAIN_SECONDS="60") as ztunnel:
        client, server = ztunnel.carried()
        with client, server:
            ztunnel.process.send_signal(signal.SIGINT)
            _until(lambda: ztunnel.ready() == 503)

            ztunnel.process.send_signal(signal.SIGINT)

            assert ztunnel.process.wait(5) == 1


def test_unread_output_and_thousands_of_refusals_do_not_stop_it(tmp_path: Path) -> None:
    with running(tmp_path, "--access-log", "-") as ztunnel:
        for _ in range(5000):
            with socket.create_connection((ADDRESS, 15008), timeout=5) as client:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        for _ in range(1000):
            client, server = ztunnel.carried()
            client.close()
            server.close()

        client, server = ztunnel.carried()
        with client, server:
            client.sendall(b"hello")
            heard = server.recv(16)
        with urllib.request.urlopen(f"{ztunnel.metrics}/stats/prometheus", timeout=5) as answer:
            dropped = _samples(answer.read().decode(), "pywaypoint_log_lines_dropped_total")
        ztunnel.process.send_signal(signal.SIGTERM)

        assert ztunnel.process.wait(10) == 0
        assert heard == b"hello"
        assert dropped['{log="process",reason="sampled"}'] > 1000


@pytest.mark.parametrize("flooded", ["readiness", "inbound HBONE", "outbound capture"])
def test_idle_connections_by_anybody_leave_operators_and_traffic_alone(tmp_path: Path, flooded: str) -> None:
    with running(tmp_path) as ztunnel, ExitStack() as idle:
        resource.prlimit(ztunnel.process.pid, resource.RLIMIT_NOFILE, (1024, 1024))
        readiness = ("127.0.0.1", int(ztunnel.readiness.rpartition(":")[2]))
        at = {"readiness": readiness, "inbound HBONE": (ADDRESS, 15008), "outbound capture": LISTEN}[flooded]
        for _ in range(1500):
            client = idle.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(at)

        for _ in range(3):
            time.sleep(0.3)
            assert ztunnel.ready() == 200
            metrics = _read(ztunnel.metrics, "/stats/prometheus")
        pod = tmp_path / "pod.yaml"
        pod.write_text(pod.read_text() + DENY)
        _until(lambda: '"name": "nobody"' in _read(ztunnel.admin, "/config_dump"))

        assert _samples(metrics, "pywaypoint_refused_total")


def test_one_connection_more_than_the_limit_is_reset(tmp_path: Path) -> None:
    with running(tmp_path, MAX_CONNECTIONS="2") as ztunnel, ExitStack() as open_:
        for _ in range(2):
            for end in ztunnel.carried():
                open_.enter_context(end)

        with pytest.raises(ConnectionResetError), socket.create_connection(LISTEN, timeout=5) as surplus:
            surplus.recv(1)

        samples = _samples(_read(ztunnel.metrics, "/stats/prometheus"), "pywaypoint_refused_total")
        assert samples == {'{reason="max_connections"}': 1}


def test_a_certificate_that_cannot_be_renewed_is_shown_and_so_is_when_it_ends(tmp_path: Path) -> None:
    with running(tmp_path) as ztunnel:
        (tmp_path / "default.client.pem").write_bytes(b"garbage")

        _until(
            lambda: "default/sa/client stays in use, because the new one cannot be loaded" in _read(ztunnel.readiness)
        )
        seconds = _samples(_read(ztunnel.metrics, "/stats/prometheus"), "istio_cert_expiry_seconds")[""]

        assert 3000 < seconds <= 3600
        client, server = ztunnel.carried()
        client.close()
        server.close()


def _read(url: str, path: str = "/healthz/ready") -> str:
    with urllib.request.urlopen(url + path, timeout=5) as answer:
        return str(answer.read().decode())


def _samples(exposition: str, name: str) -> dict[str, int]:
    lines = (line.removeprefix(name).rsplit(" ", 1) for line in exposition.splitlines() if line.startswith(name))
    return {labels: int(value) for labels, value in lines}


def test_signals_of_other_meanings_end_nothing_and_one_opens_the_access_log_anew(tmp_path: Path) -> None:
    with running(tmp_path) as ztunnel:
        log, moved = tmp_path / "access.log", tmp_path / "access.log.1"
        log.rename(moved)

        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            ztunnel.process.send_signal(number)
        client, server = ztunnel.carried()
        client.close()
        server.close()

        _until(lambda: log.exists() and "src.addr" in log.read_text())
        assert moved.read_text() == ""
        ztunnel.process.send_signal(signal.SIGTERM)
        assert ztunnel.process.wait(10) == 0


def test_an_edit_of_the_resources_is_followed(tmp_path: Path) -> None:
    with running(tmp_path) as ztunnel:
        pod = tmp_path / "pod.yaml"

        pod.write_text(pod.read_text().replace(LISTEN[0], LISTEN_AFTER[0]))

        _until(lambda: _accepts(LISTEN_AFTER))
        assert not _accepts(LISTEN)
        assert ztunnel.process.poll() is None


def test_policies_are_followed_and_cut_off_who_is_no_longer_let_in(tmp_path: Path) -> None:
    with running(tmp_path) as ztunnel, socket.create_server((ADDRESS, 9080)) as app:
        pod = tmp_path / "pod.yaml"
        capture = f'pywaypoint.dev/inbound-capture: "{ENTRANCE[0]}:{ENTRANCE[1]}=9080", '
        text = pod.read_text().replace("annotations: {", "annotations: {" + capture)
        app.settimeout(5)

        pod.write_text(text)
        _until(lambda: _accepts(ENTRANCE))
        with socket.create_connection(ENTRANCE, timeout=5) as client, _spoken_to(client, app):
            pod.write_text(text + DENY)

            assert _is_cut(client)
        with urllib.request.urlopen(f"{ztunnel.admin}/config_dump", timeout=5) as answer:
            (policy,) = json.load(answer)["policies"]
        assert (policy["name"], policy["hits"]) == ("nobody", {"denied": 1})


def _spoken_to(client: socket.socket, app: socket.socket) -> socket.socket:
    """The application's end of the client's connection; those that came before it are gone."""
    client.sendall(b"hello")
    while True:
        server, _ = app.accept()
        server.settimeout(5)
        try:
            if server.recv(5) == b"hello":
                return server
        except ConnectionResetError:
            pass
        server.close()


def _is_cut(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def _cuts_off(address: tuple[str, int]) -> bool:
    """Whether a new connection is reset. That may be before `connect` has returned."""
    try:
        with socket.create_connection(address, timeout=5) as client:
            client.sendall(b"hello")
            return _is_cut(client)
    except (ConnectionResetError, BrokenPipeError):
        return True


def _accepts(address: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        is_accepted = sock.connect_ex(address) == 0
        reset_on_close(sock)  # an orderly end would wait for the destination, which answers nobody here
        return is_accepted


@pytest.mark.parametrize(
    ("more", "variables", "sentence"),
    [
        (["--access-log", "/nowhere/access.log"], {}, "ztunnel: access log /nowhere/access.log cannot be written"),
        ([], {"DRAIN_SECONDS": "soon"}, "ztunnel: DRAIN_SECONDS is 'soon'"),
        (["--admin", "192.0.2.1:15000"], {}, "ztunnel: admin port 192.0.2.1:15000 cannot be opened"),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence(
    tmp_path: Path, more: list[str], variables: dict[str, str], sentence: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        _write_files(tmp_path, outside)
        command = _command(tmp_path, _free_ports(3), *more)

        result = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=20)

    assert result.returncode == 1
    assert result.stderr.startswith(sentence)
    assert len(result.stderr.splitlines()) == 1


def test_help_names_the_variable_of_each_flag_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from l4.ztunnel.cli import cli; cli(['run', '--help'], standalone_mode=False);"
        "print({'asyncio', 'aiohttp', 'cryptography', 'yaml', 'grpc'} & sys.modules.keys())"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)

    text = " ".join(result.stdout.split())
    for flag in (
        "RESOURCES",
        "NODE",
        "CERTIFICATES",
        "TRUST_BUNDLE",
        "METRICS",
        "READINESS",
        "ADMIN",
        "ACCESS_LOG",
        "CA_ADDRESS",
    ):
        assert f"env var: ZTUNNEL_{flag}" in text
    assert text.endswith("set()")
