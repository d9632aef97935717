"""Instructions per request, by callgrind: a figure that hardly moves from run to run, whatever else the machine does.

`python -m bench.instructions` counts what a waypoint's own process executes: its libraries too, not the kernel. It
shows what a change saves. It does not compare ours with Envoy, as `python -m bench` does: their system calls
differ, and an instruction of one takes more time than an instruction of the other.
"""

import argparse
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.chain import OURS, Chain, System
from bench.steady import REQUEST, is_answered
from tests.kit.envoy import CannotStart

_ANSWER_SECONDS = 60
_CONTROL_SECONDS = 60
_WARM_UP = 800
_TOTAL = re.compile(r"^([\d,]+) \(100\.0%\) +PROGRAM TOTALS$", re.MULTILINE)
_FUNCTION = re.compile(r"^ *([\d,]+) \( *[\d.]+%\) +(\S+)", re.MULTILINE)


class Unreadable(Exception):
    """callgrind counted nothing, or says it in another way."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Instructions of the whole program, and of each function without those that it calls, most first."""

    total: int
    functions: tuple[tuple[str, int], ...]


def parse(annotated: str) -> Profile:
    """Read what `callgrind_annotate` prints. Raises Unreadable."""
    total = _TOTAL.search(annotated)
    if total is None:
        raise Unreadable(f"there is no total in: {annotated[:500]}")
    found = _FUNCTION.findall(annotated, total.end())
    return Profile(_number(total[1]), tuple((name.rpartition("/")[2], _number(count)) for count, name in found))


def count(system: System, folder: Path, *, connections: int, requests: int) -> Profile:
    """Raises Unreadable, and OSError for a request without an answer."""
    _ask(system.entry, connections, _WARM_UP)
    _control(system, "--instr=on")
    _ask(system.entry, connections, requests)
    _control(system, "--instr=off")
    _control(system, "--dump")
    dump = max(folder.glob("callgrind.*.*"), key=lambda it: it.stat().st_mtime_ns)
    return parse(_output("callgrind_annotate", "--auto=no", str(dump)))


def main() -> int:
    options = _options()
    if shutil.which("valgrind") is None:
        print("valgrind is missing: apt-get install valgrind", file=sys.stderr)
        return 1
    figures: dict[str, Profile] = {}
    with tempfile.TemporaryDirectory(prefix="instructions-") as name, ExitStack() as stack:
        folder = Path(name)
        counted = f"--callgrind-out-file={folder}/callgrind.%p"
        valgrind = ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", counted)
        try:
            chain = Chain(folder, stack, options.python, under=valgrind)
            for waypoint in options.waypoints:
                with chain.system(waypoint) as system:
                    for connections in options.connections:
                        found = count(system, folder, connections=connections, requests=options.requests)
                        figures[f"{waypoint}, {connections} connections"] = found
        except (CannotStart, Unreadable, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    if options.json:
        print(json.dumps({key: _per_request(it, options.requests) for key, it in figures.items()}, indent=2))
        return 0
    print(f"ours is the waypoint in {OURS}, run by {options.python}")
    for key, it in figures.items():
        print(f"{key}: {it.total / options.requests:,.0f} instructions a request")
        for function, number in it.functions[: options.functions]:
            print(f"  {number / it.total:6.1%}  {function}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description="Instructions per request.")
    parser.add_argument("--waypoints", nargs="+", choices=("ours", "envoy"), default=["ours", "envoy"])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16], help="(1 16)")
    parser.add_argument("--requests", type=int, default=1600, help="that are counted (1600)")
    parser.add_argument("--functions", type=int, default=12, help="that are shown, the most expensive first (12)")
    parser.add_argument("--python", default=sys.executable, help="runs ours")
    parser.add_argument("--json", action="store_true", help="instructions per request, of each function too")
    return parser.parse_args()


def _ask(address: tuple[str, int], connections: int, requests: int) -> None:
    """One request on each connection, then its answer, again and again."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(address, _ANSWER_SECONDS)) for _ in range(connections)]
        for _ in range(requests // connections):
            for it in sockets:
                it.sendall(REQUEST)
            for it in sockets:
                if not is_answered(it):
                    raise ConnectionError("an answer was not 200")


def _control(system: System, command: str) -> None:
    _output("callgrind_control", command, str(system.process.pid))


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_CONTROL_SECONDS)
    if done.returncode:
        raise Unreadable(f"{command[0]} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _per_request(profile: Profile, requests: int) -> dict[str, object]:
    return {
        "instructions": profile.total / requests,
        "functions": {function: number / requests for function, number in profile.functions},
    }


def _number(text: str) -> int:
    return int(text.replace(",", ""))


if __name__ == "__main__":
    sys.exit(main())
