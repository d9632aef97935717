"""Instructions per request, by callgrind: a figure that hardly moves from run to run, whatever else the machine does.

`python -m bench.instructions` counts what a waypoint's own process executes: its libraries too, not the kernel. It
shows what a change saves. It does not compare ours with Envoy, as `python -m bench` does: their system calls
differ, and an instruction of one takes more time than an instruction of the other.
"""

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.callgrind import Profile, Unreadable, command, count, count_calls
from bench.chain import PLAIN, Chain, default_packages
from bench.setups import BARE, FULL
from bench.wrk import Void
from tests.kit.envoy import CannotStart


def main() -> int:
    options = _options()
    if shutil.which("valgrind") is None:
        print("valgrind is missing: apt-get install valgrind", file=sys.stderr)
        return 1
    packages = PLAIN if options.plain else default_packages()
    figures: dict[str, Profile] = {}
    with tempfile.TemporaryDirectory(prefix="instructions-") as name, ExitStack() as stack:
        folder = Path(name)
        try:
            chain = Chain(folder, stack, python=options.python, packages=packages)
            for waypoint in options.waypoints:
                with chain.system(waypoint, options.setup, under=command(folder)) as system:
                    if options.grpc:
                        figures[f"{waypoint}, gRPC unary"] = count_calls(system, calls=options.requests)
                        continue
                    for connections in options.connections:
                        found = count(system, connections=connections, requests=options.requests)
                        figures[f"{waypoint}, {connections} connections"] = found
        except (CannotStart, Unreadable, Void, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    if options.json:
        print(json.dumps({key: _per_request(it, options.requests) for key, it in figures.items()}, indent=2))
        return 0
    print(f"ours is the waypoint in {packages}, run by {options.python}")
    for key, it in figures.items():
        print(f"{key}: {it.total / options.requests:,.0f} instructions a request")
        for function, number in it.functions[: options.functions]:
            print(f"  {number / it.total:6.1%}  {function}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description="Instructions per request.")
    parser.add_argument("--waypoints", nargs="+", choices=("ours", "envoy"), default=["ours", "envoy"])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16], help="(1 16)")
    parser.add_argument("--grpc", action="store_true", help="unary gRPC calls instead, as the bench's")
    parser.add_argument("--requests", type=int, default=1600, help="that are counted (1600)")
    parser.add_argument("--functions", type=int, default=12, help="that are shown, the most expensive first (12)")
    parser.add_argument(
        "--bare", dest="setup", action="store_const", const=BARE, default=FULL, help="nothing switched on"
    )
    parser.add_argument("--plain", action="store_true", help="the source, also where the compiled twin is built")
    parser.add_argument("--python", default=sys.executable, help="runs ours")
    parser.add_argument("--json", action="store_true", help="instructions per request, of each function too")
    return parser.parse_args()


def _per_request(profile: Profile, requests: int) -> dict[str, object]:
    return {
        "instructions": profile.total / requests,
        "functions": {function: number / requests for function, number in profile.functions},
    }


if __name__ == "__main__":
    sys.exit(main())
