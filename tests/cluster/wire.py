"""What passes a node's port of the bridge, as raw frames."""

import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.cluster.machine import Node

_ETH_P_ALL, _IPV4, _TCP = 3, 0x0800, 6
_MAX_FRAMES = 100_000


@dataclass
class Seen:
    """`ports` counts segments with bytes by the lower of both ports."""

    ports: Counter[int] = field(default_factory=Counter)
    texts: list[bytes] = field(default_factory=list)
    """What segments carried that is not of port 15008."""
    records: Counter[int] = field(default_factory=Counter)
    """The first byte of each connection's first segment at port 15008: 0x16 is a TLS handshake."""


@contextmanager
def captured(node: Node) -> Iterator[Seen]:
    """Yields what passed between pods, filled when the block ends."""
    seen = Seen()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as sock:
        sock.bind((node.port, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
        yield seen
        sock.setblocking(False)
        _read(sock, seen)


def _read(sock: socket.socket, seen: Seen) -> None:
    begun = set()
    for _ in range(_MAX_FRAMES):
        try:
            frame = sock.recv(65535)
        except BlockingIOError:
            return
        if (found := _segment(frame)) is None:
            continue
        connection, ports, payload = found
        port = min(ports)
        seen.ports[port] += 1
        if 15008 not in ports:
            seen.texts.append(payload)
        elif connection not in begun:
            begun.add(connection)
            seen.records[payload[0]] += 1


def _segment(frame: bytes) -> tuple[bytes, tuple[int, int], bytes] | None:
    """The connection, its ports and the bytes of a TCP segment between pods, if the frame is one with bytes."""
    if struct.unpack_from("!H", frame, 12)[0] != _IPV4 or frame[23] != _TCP:
        return None
    header = 14 + (frame[14] & 15) * 4
    is_between_pods = frame[26:28] == frame[30:32] == bytes((10, 244))
    payload = frame[header + (frame[header + 12] >> 4) * 4 : 14 + struct.unpack_from("!H", frame, 16)[0]]
    if not is_between_pods or not payload:
        return None
    return frame[26:34] + frame[header : header + 4], struct.unpack_from("!HH", frame, header), payload
