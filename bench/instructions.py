"""Instructions per request, by callgrind: a figure that hardly moves from run to run, whatever else the machine does.

`python -m bench.instructions` counts what a waypoint's own process executes, or with `--ztunnels` that of each ztunnel:
its libraries too, not the kernel. It shows what a change saves. It does not compare ours with Envoy, as
`python -m bench` does: their system calls differ, and an instruction of one takes more time than an instruction of the
other.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.callgrind import (
    Profile,
    Unreadable,
    command,
    count,
    count_bulk,
    count_calls,
    count_connections,
    count_downloads,
)
from bench.chain import PLAIN, Chain, default_packages
from bench.setups import BARE, FULL
from bench.tunnels import TunnelChain
from bench.wrk import Void
from tests.kit.envoy import CannotStart

_SIDES = "the client's", "the application's"


def main() -> int:
    options = _options()
    if shutil.which("valgrind") is None:
        print("valgrind is missing: apt-get install valgrind", file=sys.stderr)
        return 1
    packages = PLAIN if options.plain else default_packages()
    of = _of_ztunnels if options.ztunnels else _of_waypoints
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="instructions-") as name, ExitStack() as stack:
        try:
            figures.update(of(options, packages, Path(name), stack))
        except (CannotStart, Unreadable, Void, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    if options.json:
        print(json.dumps({title: it.as_json() for title, it in figures.items()}, indent=2))
        return 0
    print(f"ours is the twin or source in {packages}, run by {options.python}")
    for title, it in figures.items():
        print(f"{title}: {it.profile.total / it.count:,.0f} instructions a {it.unit}")
        for function, number in it.profile.functions[: options.functions]:
            print(f"  {number / it.profile.total:6.1%}  {function}")
    return 0


@dataclass(frozen=True, slots=True)
class Figure:
    """The instructions of `count` units."""

    profile: Profile
    count: int
    unit: str

    def as_json(self) -> dict[str, object]:
        return {
            "instructions": self.profile.total / self.count,
            "functions": {function: number / self.count for function, number in self.profile.functions},
        }


def _of_waypoints(
    options: argparse.Namespace, packages: Path, folder: Path, stack: ExitStack
) -> Iterator[tuple[str, Figure]]:
    number: int = options.requests
    chain = Chain(folder, stack, python=options.python, packages=packages)
    for waypoint in options.waypoints:
        with chain.system(waypoint, options.setup, under=command(folder)) as system:
            if options.grpc:
                yield f"{waypoint}, gRPC unary", Figure(count_calls(system, calls=number), number, "request")
            elif options.downloads:
                yield f"{waypoint}, downloads", Figure(count_downloads(system, mib=options.mib), options.mib, "MiB")
            else:
                for connections in options.connections:
                    found = count(system, connections=connections, requests=number)
                    yield f"{waypoint}, {connections} connections", Figure(found, number, "request")


def _of_ztunnels(
    options: argparse.Namespace, packages: Path, folder: Path, stack: ExitStack
) -> Iterator[tuple[str, Figure]]:
    number: int = options.requests
    chain = TunnelChain(folder, stack, python=options.python, packages=packages)
    for name in options.waypoints:
        with chain.system(name, under=command(folder)) as tunnels:
            for side, it in zip(_SIDES, count_connections(tunnels, folder, connections=number), strict=True):
                yield f"{name}, {side} ztunnel", Figure(it, number, "new connection")
            for connections in options.connections:
                both = count_bulk(tunnels, folder, connections=connections, mib=options.mib)
                for side, it in zip(_SIDES, both, strict=True):
                    yield f"{name}, {side} ztunnel, bulk of {connections}", Figure(it, options.mib, "MiB")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description="Instructions per request.")
    parser.add_argument("--waypoints", nargs="+", choices=("ours", "envoy"), default=["ours", "envoy"])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16], help="(1 16)")
    parser.add_argument("--grpc", action="store_true", help="unary gRPC calls instead, as the bench's")
    parser.add_argument("--downloads", action="store_true", help="downloads of 10 MiB instead")
    parser.add_argument("--ztunnels", action="store_true", help="a pair of ztunnels instead: new connections, and bulk")
    parser.add_argument("--mib", type=int, default=160, help="that are counted of downloads and in bulk (160)")
    parser.add_argument("--requests", type=int, default=1600, help="or connections that are counted (1600)")
    parser.add_argument("--functions", type=int, default=12, help="that are shown, the most expensive first (12)")
    parser.add_argument(
        "--bare", dest="setup", action="store_const", const=BARE, default=FULL, help="nothing switched on"
    )
    parser.add_argument("--plain", action="store_true", help="the source, also where the compiled twin is built")
    parser.add_argument("--python", default=sys.executable, help="runs ours")
    parser.add_argument("--json", action="store_true", help="instructions per request, of each function too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
