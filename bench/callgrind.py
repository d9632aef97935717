"""Instructions that a waypoint's own process executes, counted by callgrind: its libraries too, not the kernel."""

import contextlib
import re
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import h2load
from bench.chain import System
from bench.steady import is_answered

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


def command(folder: Path) -> tuple[str, ...]:
    """What a process must be run by, to be counted. The counts are in the folder."""
    counted = f"--callgrind-out-file={folder}/callgrind.%p"
    return ("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", counted)


def count(system: System, *, connections: int, requests: int) -> Profile:
    """Of requests of a System that runs by `command` of its folder.

    Raises Unreadable, and OSError for a request without an answer.
    """
    return _count(system, lambda number: _ask(system, connections, number), requests)


def count_calls(system: System, *, calls: int) -> Profile:
    """Of unary gRPC calls, as `h2load` makes them. Raises Unreadable, and Void for a call without an answer."""
    return _count(system, lambda number: h2load.calls(system.grpc_entry, number), calls)


def _count(system: System, ask: Callable[[int], None], requests: int) -> Profile:
    ask(_WARM_UP)
    _control(system, "--instr=on")
    ask(requests)
    _control(system, "--instr=off")
    _control(system, "--dump")
    dump = max(system.folder.glob("callgrind.*.*"), key=lambda it: it.stat().st_mtime_ns)
    return parse(_output("callgrind_annotate", "--auto=no", str(dump)))


def _ask(system: System, connections: int, requests: int) -> None:
    """One request on each connection, then its answer, again and again."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(system.entry, _ANSWER_SECONDS)) for _ in range(connections)
        ]
        for _ in range(requests // connections):
            for it in sockets:
                it.sendall(system.requests.head)
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


def _number(text: str) -> int:
    return int(text.replace(",", ""))
