"""Instructions that the process of a waypoint or ztunnel executes, counted by callgrind: its libraries too, not the
kernel."""

import contextlib
import re
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import h2load
from bench.chain import FILES, System
from bench.steady import Requests, is_answered
from bench.tunnels import BULK_MIB, BULK_PATH, Tunnels
from tests.kit.envoy_pieces import Address

DOWNLOAD = "/10MiB"
DOWNLOAD_MIB = FILES[DOWNLOAD] >> 20

_ANSWER_SECONDS = 60
_CONTROL_SECONDS = 60
_AT_ONCE = 16
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
    return _count_system(system, lambda number: _ask(system.entry, system.requests, connections, number), requests)


def count_calls(system: System, *, calls: int) -> Profile:
    """Of unary gRPC calls, as `h2load` makes them. Raises Unreadable, and Void for a call without an answer."""
    return _count_system(system, lambda number: h2load.calls(system.grpc_entry, number), calls)


def count_downloads(system: System, *, mib: int) -> Profile:
    """Of downloads of `DOWNLOAD_MIB` each on one connection. Raises Unreadable, OSError."""
    requests = Requests(DOWNLOAD, system.requests.headers)
    return _count_system(
        system, lambda number: _ask(system.entry, requests, 1, -(-number // DOWNLOAD_MIB)), mib, warm_up=DOWNLOAD_MIB
    )


def count_connections(tunnels: Tunnels, folder: Path, *, connections: int) -> tuple[Profile, Profile]:
    """Of new connections through a pair that runs by `command` of the folder, with one request each.

    Returns the client's ztunnel and the application's. Raises Unreadable, OSError.
    """
    requests = Requests("/", {"connection": "close"})

    def connect(number: int) -> None:
        for _ in range(number // _AT_ONCE):
            _ask(tunnels.entry, requests, _AT_ONCE, _AT_ONCE)

    source, dest = _count((tunnels.source.pid, tunnels.dest.pid), folder, connect, connections, _WARM_UP)
    return source, dest


def count_bulk(tunnels: Tunnels, folder: Path, *, connections: int, mib: int) -> tuple[Profile, Profile]:
    """Of downloads through such a pair: who receives in TLS, and who sends. Raises Unreadable, OSError."""

    def download(number: int) -> None:
        _ask(tunnels.entry, Requests(BULK_PATH), connections, number // BULK_MIB)

    source, dest = _count((tunnels.source.pid, tunnels.dest.pid), folder, download, mib, connections * BULK_MIB)
    return source, dest


def _count_system(system: System, ask: Callable[[int], None], number: int, warm_up: int = _WARM_UP) -> Profile:
    return _count((system.process.pid,), system.folder, ask, number, warm_up)[0]


def _count(pids: tuple[int, ...], folder: Path, ask: Callable[[int], None], number: int, warm_up: int) -> list[Profile]:
    ask(warm_up)
    _control(pids, "--instr=on")
    ask(number)
    _control(pids, "--instr=off")
    _control(pids, "--dump")
    dumps = (max(folder.glob(f"callgrind.{pid}.*"), key=lambda it: it.stat().st_mtime_ns) for pid in pids)
    return [parse(_output("callgrind_annotate", "--auto=no", str(dump))) for dump in dumps]


def _ask(entry: Address, asked: Requests, connections: int, requests: int) -> None:
    """One request on each connection, then its answer, again and again."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(entry, _ANSWER_SECONDS)) for _ in range(connections)]
        for _ in range(requests // connections):
            for it in sockets:
                it.sendall(asked.head)
            for it in sockets:
                if not is_answered(it):
                    raise ConnectionError("an answer was not 200")


def _control(pids: tuple[int, ...], command: str) -> None:
    for pid in pids:
        _output("callgrind_control", command, str(pid))


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_CONTROL_SECONDS)
    if done.returncode:
        raise Unreadable(f"{command[0]} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _number(text: str) -> int:
    return int(text.replace(",", ""))
