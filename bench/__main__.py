"""`make bench`: ours and Envoy in turn, A B, B A, A B …, at several numbers of connections and at a fixed rate.

What is printed is the median of the ratios pair by pair, with the smallest and the largest: on a machine that others
use too, absolute figures drift, but the two turns of a figure are only seconds apart. Each pair has fresh processes.

Exit status: 0 measured, 1 nothing that counts could be measured, 2 asked for in a wrong way or wrk is missing,
130 interrupted.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from bench import h2load, steady, wrk
from bench.chain import DOWNLOAD_MIB, OURS, Chain, System
from tests.kit.envoy import CannotStart

_SYSTEMS = ("ours", "envoy")
_RATE = 500
_WARM_UP_SECONDS = 1
_TABLE_WIDTH = 100

Figures = dict[str, float]
Pair = dict[str, Figures]


def main() -> int:
    options = _options()
    if shutil.which("wrk") is None:
        return _fail("wrk is missing: `apt-get install wrk`, `brew install wrk`, or https://github.com/wg/wrk", 2)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops like Ctrl-C: no process is left behind
    try:
        pairs = list(_pairs(options))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except CannotStart as error:
        return _fail(str(error), 1)
    if not pairs:
        return _fail("no pair counts", 1)
    if options.json:
        print(json.dumps({"pairs": pairs, "ratios": {key: _ratios(pairs, key) for key in pairs[0]["ours"]}}, indent=1))
    else:
        Console(width=_TABLE_WIDTH).print(_table(pairs))
    return 0


def _fail(sentence: str, status: int) -> int:
    print(f"bench: {sentence}", file=sys.stderr)
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Side by side with Envoy.")
    parser.add_argument("--pairs", type=_positive, default=6, help="how often both are measured (6)")
    parser.add_argument("--seconds", type=_positive, default=4, help="of load at each number of connections (4)")
    parser.add_argument("--connections", type=_positive, nargs="+", default=[1, 16, 64], help="(1 16 64)")
    parser.add_argument("--steady-seconds", type=_positive, default=10, help=f"of {_RATE} requests a second (10)")
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="runs ours; of the same version: builds of it differ by a seventh",
    )
    parser.add_argument("--json", action="store_true", help="every pair's figures, and their ratios")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return number


def _pairs(options: argparse.Namespace) -> Iterator[Pair]:
    _say(f"ours is the waypoint in {OURS}, run by {options.python}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        chain = Chain(Path(folder), stack, options.python)
        for number in range(1, options.pairs + 1):
            try:
                with chain.system("ours") as ours, chain.system("envoy") as envoy:
                    # who goes first pays for warming up what both use: 1.1 × at one connection, Envoy against Envoy
                    pair = _measure((ours, envoy) if number % 2 else (envoy, ours), options)
            except wrk.Void as error:
                _say(f"pair {number} of {options.pairs} is void: {error}")
            else:
                _say(f"pair {number} of {options.pairs} is done")
                yield pair


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _measure(systems: tuple[System, ...], options: argparse.Namespace) -> Pair:
    """The systems take turns at each figure. Raises Void."""
    pair: Pair = {system.name: {} for system in systems}
    for connections in options.connections:
        for system in systems:
            pair[system.name] |= _under_load(system, connections, options.seconds)
    for system in systems:
        pair[system.name] |= _downloading(system, options.seconds)
    if shutil.which("h2load") is not None:
        for system in systems:
            pair[system.name] |= _calling(system, options.seconds)
    for system in systems:
        pair[system.name] |= _at_fixed_rate(system, options.steady_seconds)
    for system in systems:
        pair[system.name]["RSS MiB after the load"] = system.rss_mib()
    return pair


def _under_load(system: System, connections: int, seconds: int) -> Figures:
    wrk.run(system.entry, connections=connections, seconds=_WARM_UP_SECONDS)
    before = system.cpu_seconds()
    load = wrk.run(system.entry, connections=connections, seconds=seconds)
    microseconds = (system.cpu_seconds() - before) * 1e6
    return {
        f"CPU µs/request, {connections} connections": microseconds / load.requests,
        f"requests/s, {connections} connections": load.per_second,
        f"p50 ms, {connections} connections": load.p50_ms,
        f"p99 ms, {connections} connections": load.p99_ms,
    }


def _downloading(system: System, seconds: int) -> Figures:
    wrk.run(system.entry, connections=4, seconds=_WARM_UP_SECONDS, path="/download")
    before = system.cpu_seconds()
    load = wrk.run(system.entry, connections=4, seconds=seconds, path="/download")
    cpu = system.cpu_seconds() - before
    return {
        f"{DOWNLOAD_MIB} MiB downloads: MiB/s": load.per_second * DOWNLOAD_MIB,
        f"{DOWNLOAD_MIB} MiB downloads: CPU ms/MiB": cpu * 1000 / (load.requests * DOWNLOAD_MIB),
    }


def _calling(system: System, seconds: int) -> Figures:
    h2load.run(system.grpc_entry, seconds=_WARM_UP_SECONDS)
    before = system.cpu_seconds()
    load = h2load.run(system.grpc_entry, seconds=seconds)
    return {
        "gRPC: calls/s": load.per_second,
        "gRPC: CPU µs/call": (system.cpu_seconds() - before) * 1e6 / load.requests,
    }


def _at_fixed_rate(system: System, seconds: int) -> Figures:
    latencies = steady.measure(system.entry, rate=_RATE, seconds=seconds)
    if latencies.failed:
        raise wrk.Void(f"{latencies.failed} requests of {_RATE}/s failed through {system.name}")
    return {f"p{percent} ms, {_RATE} requests/s": latencies.percentile(percent) for percent in (50, 99)}


def _ratios(pairs: Iterable[Pair], key: str) -> list[float]:
    return [pair["ours"][key] / pair["envoy"][key] for pair in pairs]


def _table(pairs: list[Pair]) -> Table:
    """Markdown, so that it can be pasted as it is."""
    table = Table("", box=box.MARKDOWN)
    for column in ("ours", "Envoy", "ours/Envoy", "min–max"):
        table.add_column(column, justify="right")
    for key in pairs[0]["ours"]:
        medians = (f"{median(pair[name][key] for pair in pairs):.4g}" for name in _SYSTEMS)
        ratios = _ratios(pairs, key)
        table.add_row(key, *medians, f"{median(ratios):.2f}", f"{min(ratios):.2f}–{max(ratios):.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
