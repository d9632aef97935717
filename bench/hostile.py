"""An innocent client among 200 hostile ones: what it still gets, and what they leave behind.

    python -m bench.hostile [--seconds 60] [--connections 200] [--json]

A waypoint runs as a process, with the plain application of this one behind it. An innocent client sends 200 requests
a second over eight tunnels: calm for a while, then beside the hostile ones, then calm again. These come from another
process and share their work evenly between the attacks below; each of their connections acts twice a second, and one
that was ended comes back after five seconds, because the question is whether the waypoint stays fair, not how many
handshakes fill a core. Latency counts from when a request was due. Everything stops by itself.
"""

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from hpack import Encoder

from l4.http2 import frames
from l4.identity.certificate import load
from l4.identity.store import WorkloadCertificate
from tests.kit.process import WaypointProcess, waypoint_process

_RATE = 200
_TUNNELS = 8
_ACTION_SECONDS = 0.5
_RETURN_SECONDS = 5.0
_SETTLE_SECONDS = 8.0
_GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


# -- the hostile ones --------------------------------------------------------------------------------------------------


class Attacker:
    """One connection: `frame` and `head` write to it, and what comes back is thrown away but for GOAWAY."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self._encoder = Encoder()
        self._authority = authority
        self._next = 1

    def frame(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.writer.write(frames.frame(kind, flags, stream, payload))

    def connect(self, flags: int = frames.END_HEADERS) -> int:
        """A CONNECT that asks for a tunnel."""
        stream, self._next = self._next, self._next + 2
        block = self._encoder.encode([(b":method", b"CONNECT"), (b":authority", self._authority)])
        self.frame(frames.HEADERS, flags, stream, block)
        return stream


async def rapid_reset(it: Attacker) -> None:
    for _ in range(50):
        it.frame(frames.RST_STREAM, 0, it.connect(), struct.pack(">I", 8))


async def made_you_reset(it: Attacker) -> None:
    for _ in range(50):
        it.frame(frames.WINDOW_UPDATE, 0, it.connect(), bytes(4))


async def continuations(it: Attacker) -> None:
    stream = it.connect(flags=0)
    while True:
        it.frame(frames.CONTINUATION, 0, stream, b"")
        await asyncio.sleep(0.1)


async def pings(it: Attacker) -> None:
    for _ in range(200):
        it.frame(frames.PING, 0, 0, bytes(8))


async def settings(it: Attacker) -> None:
    for _ in range(20):
        it.frame(frames.SETTINGS, 0, 0)


async def slow_heads(it: Attacker) -> None:
    stream = it.connect()
    for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 1000:
        it.frame(frames.DATA, 0, stream, bytes([byte]))
        await asyncio.sleep(1)


async def half_bodies(it: Attacker) -> None:
    head = b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000\r\n\r\nhalf"
    it.frame(frames.DATA, 0, it.connect(), head)
    await asyncio.sleep(10)


async def aborts(it: Attacker) -> None:
    for _ in range(5):
        stream = it.connect()
        it.frame(frames.DATA, 0, stream, _GET)
        it.frame(frames.RST_STREAM, 0, stream, struct.pack(">I", 8))


async def closed_windows(it: Attacker) -> None:
    it.frame(frames.SETTINGS, 0, 0, struct.pack(">HI", frames.INITIAL_WINDOW_SIZE, 0))
    it.frame(frames.DATA, 0, it.connect(), _GET * 10)
    await asyncio.sleep(10)


Attack = Callable[[Attacker], Awaitable[None]]
ATTACKS: tuple[Attack, ...] = (
    rapid_reset,
    made_you_reset,
    continuations,
    pings,
    settings,
    slow_heads,
    half_bodies,
    aborts,
    closed_windows,
)


async def _attack(attack: Attack, address: tuple[str, int], authority: bytes, tls: ssl.SSLContext) -> None:
    """Again and again, whatever happens to the connection."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(*address, ssl=tls, server_hostname="")
            it = Attacker(reader, writer, authority)
            writer.write(frames.PREFACE + frames.settings_frame({}))
            try:
                while not reader.at_eof() and not writer.is_closing():
                    await attack(it)
                    await asyncio.sleep(_ACTION_SECONDS)
            finally:
                writer.close()
        await asyncio.sleep(_RETURN_SECONDS)


async def _half_handshake(address: tuple[str, int]) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"\x16\x03\x01\x02\x00\x01")
            await reader.read()
            writer.close()
        await asyncio.sleep(_RETURN_SECONDS)


async def attack(address: tuple[str, int], authority: str, chain: Path, roots: Path, connections: int) -> None:
    """For ever; the process is ended from outside."""
    tls = WorkloadCertificate(load(chain, chain.with_suffix(".key"), roots)).client_context
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            kind = number % (len(ATTACKS) + 1)
            if kind == len(ATTACKS):
                group.create_task(_half_handshake(address))
            else:
                group.create_task(_attack(ATTACKS[kind], address, authority.encode(), tls))
            await asyncio.sleep(0.02)


# -- the innocent one --------------------------------------------------------------------------------------------------


@dataclass
class Phase:
    latencies: list[float] = field(default_factory=list)
    failures: int = 0

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.latencies) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class Innocent:
    def __init__(self, waypoint: WaypointProcess) -> None:
        self._waypoint = waypoint
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def start(self) -> None:
        for _ in range(_TUNNELS):
            self._idle.put_nowait(await self._waypoint.open())

    async def ask(self, seconds: float) -> Phase:
        """Requests at the fixed rate for so long."""
        phase = Phase()
        began = time.perf_counter()  # the loop's clock has whole milliseconds
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * _RATE)):
                due = began + number / _RATE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._one(phase, due))
        return phase

    async def _one(self, phase: Phase, due: float) -> None:
        reader, writer = await self._idle.get()
        try:
            async with asyncio.timeout(10):
                writer.write(_GET)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(5)
            if not head.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(head)
        except (OSError, asyncio.IncompleteReadError):
            phase.failures += 1
            self._idle.put_nowait(await self._waypoint.open())
        else:
            phase.latencies.append(time.perf_counter() - due)
            self._idle.put_nowait((reader, writer))


async def _application(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(_ANSWER)
    writer.close()


async def measure(seconds: float, connections: int) -> dict[str, object]:
    calm_seconds = max(5.0, seconds / 6)
    with tempfile.TemporaryDirectory(prefix="pywaypoint-hostile-") as name:
        async with waypoint_process(Path(name), DRAIN_SECONDS="1", DRAIN_DELAY_SECONDS="0") as waypoint:
            server = await asyncio.start_server(_application, waypoint.pod, 9080)
            innocent = Innocent(waypoint)
            await innocent.start()
            await innocent.ask(2)
            calm = await innocent.ask(calm_seconds)
            before = waypoint.rss
            chain = waypoint.pki.write(waypoint.pki.identity("default", "attacker"))
            command = [sys.executable, "-m", "bench.hostile", "--attack", waypoint.ip, waypoint.authority, str(chain)]
            attackers = await asyncio.create_subprocess_exec(
                *command,
                str(waypoint.pki.bundle_path),
                "--connections",
                str(connections),
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                await asyncio.sleep(connections * 0.02 + 1)
                attacked = await innocent.ask(seconds)
                during = waypoint.rss
            finally:
                attackers.kill()
                await attackers.wait()
            await asyncio.sleep(_SETTLE_SECONDS)
            after = waypoint.rss
            calm_again = await innocent.ask(calm_seconds)
            refused = await waypoint.refusals()
            server.close()
    phases = {"calm": calm, "attacked": attacked, "calm_again": calm_again}
    return {
        "connections": connections,
        "seconds": seconds,
        **{
            name: {
                "requests": len(phase.latencies),
                "failures": phase.failures,
                "p50_ms": round(phase.percentile(0.5), 3),
                "p99_ms": round(phase.percentile(0.99), 3),
            }
            for name, phase in phases.items()
        },
        "p99_ratio": round(attacked.percentile(0.99) / calm.percentile(0.99), 2),
        "rss_mib": {
            name: round(rss / 2**20, 1)
            for name, rss in zip(("before", "during", "after"), (before, during, after), strict=True)
        },
        "refused": refused,
    }


def show(result: dict[str, object]) -> str:
    lines = ["| phase | requests | failures | p50 ms | p99 ms |", "|---|--:|--:|--:|--:|"]
    for name in ("calm", "attacked", "calm_again"):
        phase = result[name]
        assert isinstance(phase, dict)
        lines.append("| " + " | ".join([name.replace("_", " "), *map(str, phase.values())]) + " |")
    lines += [
        f"p99 attacked / calm: {result['p99_ratio']}",
        f"RSS MiB: {result['rss_mib']}",
        f"refused: {result['refused']}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description="A client among hostile ones.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of hostility")
    parser.add_argument("--connections", type=int, default=200, help="hostile ones, shared by all attacks")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--attack", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        ip, authority, chain, roots = arguments.attack
        uvloop.run(attack((ip, 15008), authority, Path(chain), Path(roots), arguments.connections))
        return
    started = time.monotonic()
    print(f"about {arguments.seconds * 1.4 + 20:.0f} s …", file=sys.stderr)
    result = uvloop.run(measure(arguments.seconds, arguments.connections))
    print(json.dumps(result) if arguments.json else show(result))
    print(f"done in {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
