"""`make bench`: ours and Envoy in turn, A B A B …, at several numbers of connections and at a fixed rate.

What is printed is the median of the ratios pair by pair, with the smallest and the largest: on a machine that others
use too, absolute figures drift, and ratios within one pair hardly do.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.chain import ENTRY, Chain, System
from bench.steady import measure

_NAMES = ("ours", "envoy")
_RATE = 500
_WARM_UP_SECONDS = 1
_LATENCY = re.compile(r"(50|99)%\s+([0-9.]+)(us|ms|s)")
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}

Figures = dict[str, float]


class Void(Exception):
    """The pair doesn't count: an answer was not 200, or a connection broke."""


def main() -> None:
    options = _options()
    if shutil.which("wrk") is None:
        sys.exit("make bench needs wrk: apt-get install wrk, or https://github.com/wg/wrk")
    pairs: list[dict[str, Figures]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        chain = Chain(folder, stack)
        for number in range(options.pairs):
            order = _NAMES if number % 2 == 0 else _NAMES[::-1]
            try:
                pairs.append({name: _figures(chain, name, options) for name in order})
            except Void as error:
                print(f"pair {number + 1} is void: {error}", file=sys.stderr)
                continue
            print(f"pair {number + 1} of {options.pairs} done", file=sys.stderr)
    if not pairs:
        sys.exit("no pair counts")
    if options.json:
        print(json.dumps(pairs, indent=1))
    else:
        print("\n".join(_table(pairs)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of load for each figure")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--json", action="store_true", help="every pair's figures")
    return parser.parse_args()


def _figures(chain: Chain, name: str, options: argparse.Namespace) -> Figures:
    figures: Figures = {}
    with chain.system(name) as system:
        for connections in options.connections:
            for key, value in _under_load(system, connections, options.seconds).items():
                figures[f"{connections} {key}"] = value
        figures["p50 ms at 500/s"], figures["p99 ms at 500/s"], errors = measure(
            ENTRY, rate=_RATE, seconds=options.seconds
        )
        if errors:
            raise Void(f"{errors} requests failed at {_RATE}/s through {name}")
        figures["RSS MiB"] = system.rss_mib()
    return figures


def _under_load(system: System, connections: int, seconds: int) -> Figures:
    _wrk(connections, _WARM_UP_SECONDS)
    before = system.cpu_seconds()
    requests, per_second, p50, p99 = _wrk(connections, seconds)
    cpu = system.cpu_seconds() - before
    return {"CPU µs/request": cpu / requests * 1e6, "requests/s": per_second, "p50 ms": p50, "p99 ms": p99}


def _wrk(connections: int, seconds: int) -> tuple[int, float, float, float]:
    url = f"http://{ENTRY[0]}:{ENTRY[1]}/"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    for mistake in ("Non-2xx", "Socket errors"):
        if mistake in output:
            raise Void(next(line.strip() for line in output.splitlines() if mistake in line))
    latency = {percent: float(value) * _MILLISECONDS[unit] for percent, value, unit in _LATENCY.findall(output)}
    requests = re.search(r"(\d+) requests in", output)
    per_second = re.search(r"Requests/sec:\s+([0-9.]+)", output)
    assert requests is not None
    assert per_second is not None
    return int(requests[1]), float(per_second[1]), latency["50"], latency["99"]


def _table(pairs: list[dict[str, Figures]]) -> Iterator[str]:
    yield f"Medians of {len(pairs)} pairs; the ratio is ours/Envoy pair by pair: median (smallest–largest)."
    yield ""
    yield "| figure | ours | Envoy | ratio |"
    yield "|---|--:|--:|--:|"
    for key in pairs[0]["ours"]:
        ours, theirs = ([pair[name][key] for pair in pairs] for name in _NAMES)
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        spread = f"**{median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})"
        yield f"| {_label(key)} | {median(ours):.4g} | {median(theirs):.4g} | {spread} |"


def _label(key: str) -> str:
    connections, _, rest = key.partition(" ")
    return f"{rest}, {connections} connections" if connections.isdigit() else key


if __name__ == "__main__":
    main()
