import asyncio
import gzip
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientSession, web

from l4 import admin
from l4.admin import OperatorAddresses, OperatorPorts, Part, PortUnavailable
from l4.readiness import Readiness
from l4.telemetry.metrics import TCP_LABELS, MeshMetrics
from l4.telemetry.samples import MetricsSnapshot
from tests.kit.aio import run

ANYWHERE = OperatorAddresses(("127.0.0.1", 0), ("127.0.0.1", 0), ("127.0.0.1", 0))


async def _hello(_: web.Request) -> web.Response:
    return web.Response(text="hello\n")


async def _dump() -> object:
    return {"version": "7", "problems": ()}


async def _about() -> dict[str, object]:
    return {"program": "proxy", "version": "1.2.3"}


async def _note(drains: list[str]) -> None:
    drains.append("now")


class Operator:
    """Operator ports that run, and a client to ask them."""

    def __init__(self, ports: OperatorPorts, stops: list[str], client: ClientSession, drains: list[str]) -> None:
        self.drains = drains
        self.ports = ports
        self.stops = stops
        self._client = client

    async def ask(
        self, port: str, path: str, method: str = "GET", headers: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        host, number = getattr(self.ports.addresses, port)
        async with self._client.request(method, f"http://{host}:{number}{path}", headers=headers) as response:
            return response.status, response.headers["Content-Type"], await response.text()


@asynccontextmanager
async def _operator(*pending: str, parts: Sequence[Part] = ()) -> AsyncIterator[Operator]:
    stops: list[str] = []
    drains: list[str] = []
    ports = OperatorPorts(
        MeshMetrics("proxy", "1.2.3"),
        pending,
        dump=_dump,
        stop=lambda: stops.append("now"),
        pages={"/hello": ("a greeting", _hello)},
        parts=parts,
        about=_about,
        drain=lambda: _note(drains),
    )
    await ports.start(ANYWHERE)
    async with ClientSession() as client:
        try:
            yield Operator(ports, stops, client, drains)
        finally:
            await ports.close()


@pytest.fixture
def root_level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def test_readiness_names_what_is_pending_until_nothing_is() -> None:
    async def scenario() -> None:
        async with _operator("configuration", "certificate") as operator:
            before = await operator.ask("readiness", "/healthz/ready")
            operator.ports.readiness.done("certificate")
            between = await operator.ask("readiness", "/healthz/ready")
            operator.ports.readiness.done("configuration")
            after = await operator.ask("readiness", "/healthz/ready")

            assert before[::2] == (503, "not ready, pending: certificate, configuration\n")
            assert between[::2] == (503, "not ready, pending: configuration\n")
            assert after[::2] == (200, "ready\n")

    run(scenario())


def test_readiness_says_what_somebody_should_look_after() -> None:
    async def scenario() -> None:
        async with _operator("configuration") as operator:
            operator.ports.readiness.concern("certificate", "the certificate expires soon")
            operator.ports.readiness.concern("configuration", "two files can't be read")
            operator.ports.readiness.concern("keys", "gone again")
            operator.ports.readiness.concern("keys", "")
            before = await operator.ask("readiness", "/healthz/ready")
            operator.ports.readiness.done("configuration")
            after = await operator.ask("readiness", "/healthz/ready")

            assert before[::2] == (
                503,
                "not ready, pending: configuration\nthe certificate expires soon\ntwo files can't be read\n",
            )
            assert after[::2] == (200, "ready\nthe certificate expires soon\ntwo files can't be read\n")

    run(scenario())


@pytest.mark.parametrize("path", ["/stats/prometheus", "/metrics"])
def test_metrics_come_as_text_or_as_openmetrics(path: str) -> None:
    async def scenario() -> None:
        async with _operator() as operator:
            status, text_type, text = await operator.ask("metrics", path)
            _, openmetrics_type, openmetrics = await operator.ask(
                "metrics", path, headers={"Accept": "application/openmetrics-text;version=1.0.0"}
            )

            assert status == 200
            assert text_type.startswith("text/plain; version=0.0.4")
            assert 'istio_build{component="proxy",tag="1.2.3"} 1\n' in text
            assert openmetrics_type.startswith("application/openmetrics-text; version=1.0.0")
            assert openmetrics.endswith("# EOF\n")

    run(scenario())


@pytest.mark.parametrize(
    ("accepts", "encoding"),
    [("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("identity", None), ("gzip;q=0, br", None), ("x-gzipped", None)],
)
def test_metrics_are_compressed_for_who_accepts_it(accepts: str, encoding: str | None) -> None:
    async def scenario() -> None:
        async with _operator() as operator, ClientSession(auto_decompress=False) as client:
            host, number = operator.ports.addresses.metrics
            address, headers = f"http://{host}:{number}/stats/prometheus", {"Accept-Encoding": accepts}
            async with client.get(address, headers=headers) as response:
                body = await response.read()

            assert response.headers.get("Content-Encoding") == encoding
            assert b"istio_build" in (gzip.decompress(body) if encoding else body)

    run(scenario())


def test_the_administration_port_shows_its_pages() -> None:
    async def scenario() -> None:
        async with _operator() as operator:
            assert (await operator.ask("admin", "/healthz"))[::2] == (200, "ok\n")
            assert (await operator.ask("admin", "/hello"))[::2] == (200, "hello\n")
            assert '"version": "7"' in (await operator.ask("admin", "/config_dump"))[2]
            assert "istio_build" in (await operator.ask("admin", "/stats"))[2]
            index = (await operator.ask("admin", "/"))[2]
            assert all(path in index for path in ("/stats", "/config_dump", "/quitquitquit", "/hello"))
            assert (await operator.ask("admin", "/nothing"))[0] == 404

    run(scenario())


def test_only_a_post_stops_the_program() -> None:
    async def scenario() -> None:
        async with _operator() as operator:
            assert (await operator.ask("admin", "/quitquitquit"))[0] == 405
            assert operator.stops == []

            assert (await operator.ask("admin", "/quitquitquit", "POST"))[::2] == (200, "shutting down\n")
            assert operator.stops == ["now"]

    run(scenario())


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example:15000"}, {"Host": "[::1"}]
)
def test_a_web_page_cannot_use_the_administration_port(headers: dict[str, str]) -> None:
    async def scenario() -> None:
        async with _operator() as operator:
            status, _, text = await operator.ask("admin", "/quitquitquit", "POST", headers)

            assert status == 403
            assert "use curl" in text
            assert operator.stops == []

    run(scenario())


def test_the_log_level_changes_while_running(root_level: None) -> None:
    async def scenario() -> None:
        async with _operator() as operator:
            assert (await operator.ask("admin", "/logging?level=debug", "POST"))[0] == 200
            assert logging.getLogger().level == logging.DEBUG

            assert (await operator.ask("admin", "/logging?level=", "POST"))[2] == "log level is debug\n"
            assert (await operator.ask("admin", "/logging?level=warn", "POST"))[2] == "log level is now warning\n"
            assert (await operator.ask("admin", "/logging?level=trace", "POST"))[2] == "log level is now debug\n"
            status, _, text = await operator.ask("admin", "/logging?level=loud", "POST")
            assert status == 400
            assert text == "level='loud' is not one of debug, info, warning, error, critical, for the whole process\n"
            assert logging.getLogger().level == logging.DEBUG

    run(scenario())


def test_a_port_in_use_is_one_clear_sentence_and_leaves_nothing_open() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as program:
            taken = program.getsockname()
            other = OperatorPorts(MeshMetrics("proxy", "1"), (), dump=_dump, stop=lambda: None)

            with pytest.raises(PortUnavailable) as failure:
                await other.start(OperatorAddresses(("127.0.0.1", 0), ("127.0.0.1", 0), taken))

            assert failure.value.address == taken
            assert str(failure.value) == (
                f"admin port 127.0.0.1:{taken[1]} cannot be opened: another program uses it; stop that program, "
                "or choose another with --admin"
            )
            assert other._runners == []

    run(scenario())


def test_an_address_this_machine_does_not_have_is_said_so() -> None:
    async def scenario() -> None:
        ports = OperatorPorts(MeshMetrics("proxy", "1"), (), dump=_dump, stop=lambda: None)

        with pytest.raises(PortUnavailable, match=r"metrics port 192\.0\.2\.1:15020 .* does not have the address"):
            await ports.start(OperatorAddresses(metrics=("192.0.2.1", 15020)))

    run(scenario())


def test_the_administration_port_is_on_loopback_by_default() -> None:
    assert OperatorAddresses().admin == ("127.0.0.1", 15000)


async def _readiness(operator: OperatorPorts) -> set[int]:
    """What twenty probes are told, each on a connection of its own."""
    url = "http://{}:{}/healthz/ready".format(*operator.addresses.readiness)
    statuses = set()
    for _ in range(20):
        async with ClientSession() as client, client.get(url) as response:
            statuses.add(response.status)
    return statuses


def test_a_process_that_is_told_to_stop_says_that_it_is_not_ready() -> None:
    async def scenario() -> None:
        async with _operator() as old:
            old.ports.stopping()

            assert await _readiness(old.ports) == {503}

    run(scenario())


@pytest.mark.parametrize("comes_first", [True, False], ids=["before the old one stops", "while it drains"])
def test_the_ports_go_from_an_old_process_to_a_new_one(comes_first: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        new = OperatorPorts(MeshMetrics("proxy", "1.2.4"), (), dump=_dump, stop=lambda: None)
        async with _operator() as old:
            if comes_first:
                await new.start(old.ports.addresses)
                assert "another process also listens on the readiness port" in caplog.text
                old.ports.stopping()
            else:
                old.ports.stopping()
                await new.start(old.ports.addresses)
                await asyncio.sleep(1)

            assert await _readiness(new) == {200}
            await new.close()

    run(scenario())


@dataclass
class _Worker:
    """Carries nothing, but has metrics and readiness."""

    name: str
    own: Readiness = field(default_factory=Readiness)
    counts: MeshMetrics = field(default_factory=lambda: MeshMetrics("proxy", "1.2.3"))
    hangs: bool = False

    async def readiness(self) -> Readiness:
        await self._pause()
        return self.own

    async def metrics(self) -> MetricsSnapshot:
        await self._pause()
        return self.counts.snapshot()

    async def _pause(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()


def test_the_program_is_ready_when_each_part_of_it_is() -> None:
    async def scenario() -> None:
        one, other = _Worker("worker 1"), _Worker("worker 2", Readiness({"listener"}, {"keys": "no keys of https://a"}))
        async with _operator("certificate", parts=(one, other)) as operator:
            operator.ports.readiness.concern("keys", "no keys of https://b")
            before = await operator.ask("readiness", "/healthz/ready")
            operator.ports.readiness.done("certificate")
            between = await operator.ask("readiness", "/healthz/ready")
            other.own.done("listener")
            after = await operator.ask("readiness", "/healthz/ready")

            concerns = "no keys of https://b\nno keys of https://a\n"
            assert before[::2] == (503, f"not ready, pending: certificate, listener\n{concerns}")
            assert between[::2] == (503, f"not ready, pending: listener\n{concerns}")
            assert after[::2] == (200, f"ready\n{concerns}")

    run(scenario())


def test_a_scrape_adds_up_the_parts_of_the_program() -> None:
    async def scenario() -> None:
        workers = _Worker("worker 1"), _Worker("worker 2")
        for number, worker in enumerate(workers, start=1):
            worker.counts.connections_opened.labels(("a",) * len(TCP_LABELS)).add(number)
            worker.counts.count_refusal("max_connections")
        async with _operator(parts=workers) as operator:
            _, _, text = await operator.ask("metrics", "/stats/prometheus")

            (opened,) = (it for it in text.splitlines() if it.startswith("istio_tcp_connections_opened_total{"))
            assert opened.endswith(" 3")
            assert 'pywaypoint_refused_total{reason="max_connections"} 2\n' in text
            assert 'istio_build{component="proxy",tag="1.2.3"} 1\n' in text

    run(scenario())


def test_a_part_that_does_not_answer_is_not_ready_and_gives_no_wrong_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with _operator(parts=(_Worker("worker 1"), _Worker("worker 2", hangs=True))) as operator:
            ready, stats = await asyncio.gather(
                operator.ask("readiness", "/healthz/ready"), operator.ask("metrics", "/stats/prometheus")
            )

            assert ready[::2] == (503, "not ready, pending: worker 2\nworker 2 did not answer within 0.1 s\n")
            assert stats[::2] == (503, "worker 2 did not answer within 0.2 s\n")

    monkeypatch.setattr(admin, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(admin, "ANSWER_SECONDS", 0.2)
    run(scenario())


def test_the_status_says_who_the_process_is_and_what_is_pending() -> None:
    async def scenario() -> None:
        async with _operator("certificate") as operator:
            operator.ports.readiness.concern("certificate", "it expires in a minute")

            status, kind, text = await operator.ask("admin", "/status")

            found = json.loads(text)
            assert (status, kind.partition(";")[0]) == (200, "application/json")
            assert (found["program"], found["version"], found["ready"]) == ("proxy", "1.2.3", False)
            assert found["pending"] == ["certificate"]
            assert found["concerns"] == {"certificate": "it expires in a minute"}
            assert found["uptime_seconds"] > 0

    run(scenario())


def test_an_operator_drains_a_process_and_ends_that() -> None:
    async def scenario() -> None:
        async with _operator() as operator:
            status, _, _ = await operator.ask("admin", "/drain", "POST")
            during = await operator.ask("readiness", "/healthz/ready?verbose")
            await operator.ask("admin", "/drain?on=false", "POST")
            after = await operator.ask("readiness", "/healthz/ready")

            assert (status, operator.drains) == (200, ["now"])
            assert during[0] == 503
            assert during[2].startswith("not ready, pending: draining\ndraining since ")
            assert after[::2] == (200, "ready\n")
            assert (await operator.ask("admin", "/drain"))[0] == 405
            assert (await operator.ask("admin", "/drain?on=perhaps", "POST"))[0] == 400
            assert (await operator.ask("admin", "/drain", "POST", {"Origin": "http://evil"}))[0] == 403

    run(scenario())
