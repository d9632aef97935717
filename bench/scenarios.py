"""What is measured, one entry a scenario: the setup of both waypoints, and what is done to each.

A new one is a new entry of `SCENARIOS`. Figures that a scenario calls by the same name in both systems become rows of
the table.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench import callgrind, h2load, idle, steady, streams, wrk
from bench.chain import FILES, System
from bench.pairs import Figures
from bench.setups import BARE, FULL, Setup
from bench.tunnels import BULK_MIB, BULK_PATH, Tunnels
from bench.wrk import Void

_WARM_UP_SECONDS = 1
_TRANSFERS = 4
_CHURN_RATE = 500
_CHANGE_SECONDS = 1.0
_SETTLE_SECONDS = 1.0
_TUNNELS = 1000
_CONNECTIONS = 500
_COUNTED = 1600

Measure = Callable[[System, int], Figures]
"""Takes so many seconds of load, where there is load. Raises Void."""

MeasureTunnels = Callable[[Tunnels, int], Figures]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`name` is that of `--only`, `title` that of the table's row."""

    name: str
    title: str
    measure: Measure | MeasureTunnels
    setup: Setup | None = FULL
    """That of waypoints; None for a pair of ztunnels."""
    peer: str = "envoy"
    """What ours is compared with."""
    needs: tuple[str, ...] = ("wrk",)
    """The programs that it asks for."""
    is_fresh: bool = False
    """Whether it wants processes of its own, that have carried nothing yet."""
    is_counted: bool = False
    """Whether the waypoints run under callgrind."""


def _load(connections: int, *, varies: bool = False, **options: str) -> Measure:
    """As many requests as keep-alive connections can carry."""

    def measure(system: System, seconds: int) -> Figures:
        headers = {**system.requests.headers, **options}
        path = system.requests.path
        wrk.run(system.entry, connections=connections, seconds=_WARM_UP_SECONDS, path=path, headers=headers)
        before = system.cpu_seconds()
        load = wrk.run(
            system.entry, connections=connections, seconds=seconds, path=path, headers=headers, varies=varies
        )
        return {
            "CPU µs/request": (system.cpu_seconds() - before) * 1e6 / load.requests,
            "requests/s": load.per_second,
            "p50 ms": load.p50_ms,
            "p99 ms": load.p99_ms,
        }

    return measure


def _cost(system: System, seconds: int) -> Figures:
    """The same at 16 connections, where the only question is what a feature costs."""
    return {"CPU µs/request": _load(16)(system, seconds)["CPU µs/request"]}


def _routes(system: System, seconds: int) -> Figures:
    return {"RSS MiB, with the routes": system.rss_mib(), **_cost(system, seconds)}


def _body(path: str, *, is_upload: bool, over_tcp: bool = False) -> Measure:
    size = FILES[path]

    def measure(system: System, seconds: int) -> Figures:
        entry = system.tcp_entry if over_tcp else system.entry
        body, asked = (size, "/") if is_upload else (0, path)
        wrk.run(entry, connections=_TRANSFERS, seconds=_WARM_UP_SECONDS, path=asked, body_bytes=body)
        before = system.cpu_seconds()
        load = wrk.run(entry, connections=_TRANSFERS, seconds=seconds, path=asked, body_bytes=body)
        cpu = system.cpu_seconds() - before
        if size < 1 << 20:
            return {"CPU µs/request": cpu * 1e6 / load.requests}
        mib = size / 2**20
        return {"CPU ms/MiB": cpu * 1000 / (load.requests * mib), "MiB/s": load.per_second * mib}

    return measure


def _tcp(system: System, seconds: int) -> Figures:
    """Small requests and answers whose bytes pass as they are."""
    wrk.run(system.tcp_entry, connections=16, seconds=_WARM_UP_SECONDS)
    before = system.cpu_seconds()
    load = wrk.run(system.tcp_entry, connections=16, seconds=seconds)
    return {"CPU µs/request": (system.cpu_seconds() - before) * 1e6 / load.requests}


def _http2(system: System, seconds: int) -> Figures:
    h2load.run(system.entry, seconds=_WARM_UP_SECONDS, path=system.requests.path)
    before = system.cpu_seconds()
    load = h2load.run(system.entry, seconds=seconds, path=system.requests.path)
    return {
        "CPU µs/request": (system.cpu_seconds() - before) * 1e6 / load.requests,
        "requests/s": load.per_second,
    }


def _grpc_unary(system: System, seconds: int) -> Figures:
    h2load.run(system.grpc_entry, seconds=_WARM_UP_SECONDS)
    before = system.cpu_seconds()
    load = h2load.run(system.grpc_entry, seconds=seconds)
    return {"CPU µs/call": (system.cpu_seconds() - before) * 1e6 / load.requests, "calls/s": load.per_second}


def _grpc_streams(system: System, seconds: int) -> Figures:
    streams.run(system.grpc_entry, seconds=_WARM_UP_SECONDS)
    before = system.cpu_seconds()
    messages = streams.run(system.grpc_entry, seconds=seconds)
    return {"CPU µs/message": (system.cpu_seconds() - before) * 1e6 / messages}


def _at_rate(rate: int) -> Measure:
    def measure(system: System, seconds: int) -> Figures:
        steady.measure(system.entry, rate=rate, seconds=_WARM_UP_SECONDS, requests=system.requests)
        return _latencies(system, rate, seconds)

    return measure


def _latencies(system: System, rate: int, seconds: float) -> Figures:
    found = steady.measure(system.entry, rate=rate, seconds=seconds, requests=system.requests)
    if found.failed:
        raise Void(f"{found.failed} requests of {rate}/s failed through {system.name}")
    return {f"p{percent:g} ms": found.percentile(percent) for percent in (50, 99, 99.9)}


def _memory(system: System, seconds: int) -> Figures:
    """At rest, with idle clients, and after a load. Tunnels come while the connections are still held: memory that was
    given back would be taken again, and not counted."""
    figures = {"RSS MiB, idle": system.rss_mib()}
    with idle.connections(system, _CONNECTIONS):
        held = system.rss_mib()
        figures["RSS KiB per idle HBONE connection"] = (held - figures["RSS MiB, idle"]) * 1024 / _CONNECTIONS
        with idle.tunnels(system, _TUNNELS):
            figures["RSS MiB per 1,000 idle tunnels"] = system.rss_mib() - held
    wrk.run(system.entry, connections=64, seconds=seconds, path=system.requests.path)
    time.sleep(_SETTLE_SECONDS)
    figures["RSS MiB, after the load"] = system.rss_mib()
    return figures


def _start(system: System, seconds: int) -> Figures:
    return {"s until a request is served": system.ready_seconds}


def _churn(system: System, seconds: int) -> Figures:
    """A client at a fixed rate, calm and then while the configuration changes."""
    before = system.cpu_seconds()
    steady.measure(system.entry, rate=_CHURN_RATE, seconds=seconds, requests=system.requests)
    calm = system.cpu_seconds() - before
    with _changing(system) as changes:
        before = system.cpu_seconds()
        figures = _latencies(system, _CHURN_RATE, seconds)
        cpu = system.cpu_seconds() - before
    return {**figures, "CPU ms/change": max(0.0, cpu - calm) * 1000 / max(1, len(changes))}


@contextmanager
def _changing(system: System) -> Iterator[list[int]]:
    """Another version of the configuration once a second, for the block. Yields those that were written."""
    written: list[int] = []
    is_over = threading.Event()

    def change() -> None:
        while not is_over.is_set():
            system.reconfigure(len(written) + 1)
            written.append(len(written) + 1)
            is_over.wait(_CHANGE_SECONDS)

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    try:
        yield written
    finally:
        is_over.set()
        thread.join()


def _connections() -> Iterator[Scenario]:
    for number in (1, 16, 64, 256):
        yield Scenario(f"http1-{number}", f"HTTP/1.1, {number} connections", _load(number))


def _bodies() -> Iterator[Scenario]:
    for path in FILES:
        size = path[1:].replace("KiB", " KiB").replace("MiB", " MiB")
        name = path[1:].lower()
        yield Scenario(f"download-{name}", f"download of {size}", _body(path, is_upload=False))
        yield Scenario(f"upload-{name}", f"upload of {size}", _body(path, is_upload=True))


def _features() -> Iterator[Scenario]:
    """Each feature alone, so that its own cost shows against the bare one."""
    alone = {
        "bare": ("nothing switched on", BARE),
        "log": ("access log alone", replace(BARE, access_log=True)),
        "tracing": ("1 % tracing alone", replace(BARE, tracing=True)),
        "resilience": ("timeout, retries, breaker and outliers alone", replace(BARE, resilience=True)),
        "limits": ("rate limit alone", replace(BARE, limits=True)),
        "rules-10": ("authorization alone, 10 rules", replace(BARE, rules=10)),
        "rules-100": ("authorization alone, 100 rules", replace(BARE, rules=100)),
        "tokens": ("tokens alone, RS256", replace(BARE, token=True)),
        "mirror": ("mirror of every request alone", replace(BARE, mirror=True)),
    }
    for name, (title, setup) in alone.items():
        yield Scenario(name, title, _cost, setup)


def _instructions() -> Iterator[Scenario]:
    """What callgrind counts: hardly moves from run to run, but is no comparison of two programs' speed."""
    for number in (1, 16):
        title = f"HTTP/1.1, {number} connections, counted"
        yield Scenario(f"instructions-{number}", title, _counted(number), needs=("valgrind",), is_counted=True)


def _counted(connections: int) -> Measure:
    def measure(system: System, seconds: int) -> Figures:
        try:
            profile = callgrind.count(system, connections=connections, requests=_COUNTED)
        except (callgrind.Unreadable, OSError) as error:
            raise Void(f"nothing was counted of {system.name}: {error}") from error
        return {"instructions/request": profile.total / _COUNTED}

    return measure


def _bulk(connections: int) -> MeasureTunnels:
    """Downloads: the ztunnel of the application sends in TLS, that of the client receives."""

    def measure(tunnels: Tunnels, seconds: int) -> Figures:
        wrk.run(tunnels.entry, connections=connections, seconds=_WARM_UP_SECONDS, path=BULK_PATH)
        before = tunnels.cpu_seconds()
        load = wrk.run(tunnels.entry, connections=connections, seconds=seconds, path=BULK_PATH)
        received, sent = (after - began for after, began in zip(tunnels.cpu_seconds(), before, strict=True))
        mib = load.requests * BULK_MIB
        return {
            "MiB per CPU-second, sending": mib / sent,
            "MiB per CPU-second, receiving": mib / received,
            "MiB/s": load.per_second * BULK_MIB,
        }

    return measure


def _carried(connections: int, **headers: str) -> MeasureTunnels:
    """Small requests, of which the pair sees bytes; with `connection: close`, a connection for each."""

    def measure(tunnels: Tunnels, seconds: int) -> Figures:
        wrk.run(tunnels.entry, connections=connections, seconds=_WARM_UP_SECONDS, headers=headers)
        before = sum(tunnels.cpu_seconds())
        load = wrk.run(tunnels.entry, connections=connections, seconds=seconds, headers=headers)
        one = "connection" if headers else "request"
        return {
            f"CPU µs/{one}, both ztunnels": (sum(tunnels.cpu_seconds()) - before) * 1e6 / load.requests,
            f"{one}s/s": load.per_second,
            "p99 ms": load.p99_ms,
        }

    return measure


def _at_rest(tunnels: Tunnels, seconds: int) -> Figures:
    source, dest = tunnels.rss_mib()
    return {"RSS MiB, client's": source, "RSS MiB, application's": dest}


def _ztunnels() -> Iterator[Scenario]:
    yield Scenario("ztunnel-idle", "ztunnel pair at rest", _at_rest, None, needs=())
    for number in (1, 16):
        title = f"ztunnel bulk, {number} connection{'s' * (number > 1)}"
        yield Scenario(f"ztunnel-bulk-{number}", title, _bulk(number), None)
        yield Scenario(f"ztunnel-relay-{number}", f"{title}, against bare TLS", _bulk(number), None, "relay")
    yield Scenario("ztunnel-requests", "ztunnel, requests on 16 connections", _carried(16), None)
    closing = _carried(16, connection="close")
    yield Scenario("ztunnel-connections", "ztunnel, a new connection per request", closing, None)


def _tables() -> Iterator[Scenario]:
    for number in (10, 1_000, 10_000):
        yield Scenario(f"routes-{number}", f"{number:,} routes", _routes, replace(FULL, routes=number), is_fresh=True)


SCENARIOS = (
    *_connections(),
    Scenario("http1-16-varied", "HTTP/1.1, 16 connections, no head comes twice", _load(16, varies=True)),
    Scenario("new-connections", "a new connection per request", _load(16, connection="close")),
    Scenario("http2", "HTTP/2, 4 connections of 16 streams", _http2, needs=("h2load",)),
    Scenario("grpc", "gRPC unary", _grpc_unary, needs=("h2load",)),
    Scenario("grpc-streams", "gRPC streams", _grpc_streams, needs=()),
    *_bodies(),
    Scenario("tcp", "TCP, 16 connections", _tcp),
    Scenario("tcp-download", "TCP, download of 10 MiB", _body("/10MiB", is_upload=False, over_tcp=True)),
    Scenario("rate-500", "500 requests/s", _at_rate(500), needs=()),
    Scenario("rate-2000", "2,000 requests/s", _at_rate(2000), needs=()),
    Scenario("memory", "memory", _memory, is_fresh=True),
    Scenario("start", "start with 100 services", _start, replace(FULL, services=100), needs=(), is_fresh=True),
    *_tables(),
    Scenario("churn", "500 requests/s, configuration changed each second", _churn, replace(FULL, routes=100), needs=()),
    *_features(),
    *_instructions(),
    *_ztunnels(),
)


def groups(chosen: Sequence[Scenario]) -> list[list[Scenario]]:
    """Scenarios that go one after the other through the same processes."""
    found: dict[object, list[Scenario]] = {}
    for it in chosen:
        found.setdefault((it.setup, it.peer, it.is_counted, it.name if it.is_fresh else ""), []).append(it)
    return list(found.values())
