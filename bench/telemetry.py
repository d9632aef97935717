"""What telemetry costs: instructions per request with parts of it switched on, against none, by callgrind.

`python -m bench.telemetry` counts the plain source, and the compiled twin if `make build/twin` has built it. A share of
1 % of all traces is calculated from none and all of them: 16 spans more or less would change the figure. Of several
rounds the least counts, because what runs by the clock falls on more requests the faster they are.

With `--cpu` it measures CPU time in turn: with all of the telemetry and with none of it, each beside everything else
that the bench switches on, and beside nothing else.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench import wrk
from bench.callgrind import Unreadable, command, count
from bench.chain import PLAIN, TWIN, Chain
from bench.setups import BARE, FULL, Setup
from tests.kit.envoy import CannotStart

_SHARE = 0.01
_BUILDS = {"plain": PLAIN, "twin": TWIN}
_NOTHING = replace(BARE, metrics=False)
_TEXT = replace(BARE, access_log=True)
_JSON = replace(_TEXT, json_log=True)
_NONE, _ALL = 0.0, 100.0
SETUPS = {
    "nothing": _NOTHING,
    "metrics": BARE,
    "metrics, log as text": _TEXT,
    "metrics, log as JSON": _JSON,
    "metrics, log as text, no traces": replace(_TEXT, tracing=True, sampled_percent=_NONE),
    "metrics, log as text, all traces": replace(_TEXT, tracing=True, sampled_percent=_ALL),
    "metrics, log as JSON, no traces": replace(_JSON, tracing=True, sampled_percent=_NONE),
    "metrics, log as JSON, all traces": replace(_JSON, tracing=True, sampled_percent=_ALL),
}
_UNTOLD = replace(FULL, metrics=False, access_log=False, tracing=False)
PAIRS = {
    "nothing else": (replace(_TEXT, tracing=True), _NOTHING),
    "everything else": (FULL, _UNTOLD),
    "everything else, the log as JSON": (replace(FULL, json_log=True), _UNTOLD),
}
"""All of the telemetry, the log as text and 1 % of the traces, and none of it."""


def main() -> int:
    options = _options()
    if options.cpu:
        return _cpu(options)
    if shutil.which("valgrind") is None:
        print("valgrind is missing: apt-get install valgrind", file=sys.stderr)
        return 1
    try:
        found = {build: with_shares(_counted(_BUILDS[build], options)) for build in options.builds}
    except (CannotStart, Unreadable, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if options.json else table(found))
    return 0


def with_shares(counted: Mapping[str, float]) -> dict[str, float]:
    """Put the share of sampled requests in place of all of them."""
    shares: dict[str, float] = {}
    for name, instructions in counted.items():
        rest, is_sampled, _ = name.partition(", all traces")
        if is_sampled:
            none = counted[f"{rest}, no traces"]
            shares[f"{rest}, {_SHARE:.0%} of traces"] = none + _SHARE * (instructions - none)
        else:
            shares[name] = instructions
    return shares


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table in Markdown: the first row's instructions, and what the others have more."""
    builds = list(found)
    lines = [f"| instructions per request | {' | '.join(builds)} |", "|---|" + "--:|" * len(builds)]
    [first, *others] = next(iter(found.values()))
    lines.append(f"| {first} | " + " | ".join(f"{found[it][first]:,.0f}" for it in builds) + " |")
    for name in others:
        more = (found[it][name] / found[it][first] - 1 for it in builds)
        lines.append(f"| {name} | " + " | ".join(f"{it:+.1%}" for it in more) + " |")
    return "\n".join(lines)


def _counted(packages: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return the instructions per request of each setup. Raises CannotStart, Unreadable and OSError."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="telemetry-") as name, ExitStack() as stack:
        folder = Path(name)
        chain = Chain(folder, stack, python=options.python, packages=packages)
        for what, setup in SETUPS.items():
            with chain.system("ours", setup, under=command(folder)) as system:
                rounds = [count(system, connections=16, requests=options.requests) for _ in range(options.rounds)]
            found[what] = min(it.total for it in rounds) / options.requests
            print(f"{packages}: {what}: {found[what]:,.0f}", file=sys.stderr)
    return found


def _cpu(options: argparse.Namespace) -> int:
    """Print what the telemetry costs in CPU time, beside nothing else and beside everything else."""
    for build in options.builds:
        with tempfile.TemporaryDirectory(prefix="telemetry-") as name, ExitStack() as stack:
            chain = Chain(Path(name), stack, python=options.python, packages=_BUILDS[build])
            for beside, setups in PAIRS.items():
                ratios = []
                for number in range(options.pairs):
                    turns = setups if number % 2 else setups[::-1]
                    spent = {setup: _microseconds(chain, setup, options.seconds) for setup in turns}
                    ratios.append(spent[setups[0]] / spent[setups[1]] - 1)
                print(f"{build}, beside {beside}: {median(ratios):+.1%} ({min(ratios):+.1%} to {max(ratios):+.1%})")
    return 0


def _microseconds(chain: Chain, setup: Setup, seconds: int) -> float:
    """CPU of a request on 16 connections."""
    with chain.system("ours", setup) as system:
        wrk.run(system.entry, connections=16, seconds=1, path=system.requests.path)
        before = system.cpu_seconds()
        load = wrk.run(system.entry, connections=16, seconds=seconds, path=system.requests.path)
        return (system.cpu_seconds() - before) * 1e6 / load.requests


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.telemetry", description="What telemetry costs.")
    builds = [it for it, folder in _BUILDS.items() if (folder / "waypoint").is_dir()]
    parser.add_argument("--builds", nargs="+", choices=builds, default=builds, help="(those that are built)")
    parser.add_argument("--cpu", action="store_true", help="CPU time in turn; needs wrk, and a quiet machine")
    parser.add_argument("--pairs", type=int, default=5, help="of --cpu (5)")
    parser.add_argument("--seconds", type=int, default=4, help="of load for each of a pair (4)")
    parser.add_argument("--requests", type=int, default=1600, help="that are counted (1600)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the least counts (3)")
    parser.add_argument("--python", default=sys.executable, help="runs ours")
    parser.add_argument("--json", action="store_true", help="instructions per request")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
