"""Requests at a fixed rate, whatever the answers' speed.

Latency counts from when a request was due, not from when it left: a stall shows in every request that it delayed (no
coordinated omission). The requests are dealt out to keep-alive connections in turn, as wrk2 does.

One thread per connection, because a thread sleeps to within 0.1 ms, while an event loop's timers have whole
milliseconds, more than a waypoint takes.
"""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CONNECTIONS = 16
_ANSWER_SECONDS = 10
_LEAD_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Requests:
    """What each request asks for, and brings."""

    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def head(self) -> bytes:
        fields = {"Host": "app", "User-Agent": "steady", **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"GET {self.path} HTTP/1.1\r\n{lines}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of the requests that were answered with 200, ascending; and how many were not."""

    milliseconds: tuple[float, ...]
    failed: int

    def percentile(self, percent: float) -> float:
        return self.milliseconds[int(len(self.milliseconds) * percent / 100)]


def measure(address: tuple[str, int], *, rate: int, seconds: float, requests: Requests = Requests()) -> Latencies:
    count, head = int(rate * seconds), requests.head
    found: list[float] = []
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(address, _ANSWER_SECONDS)) for _ in range(_CONNECTIONS)]
        start = time.perf_counter() + _LEAD_SECONDS
        threads = []
        for first, sock in enumerate(sockets):
            schedule = [start + number / rate for number in range(first, count, _CONNECTIONS)]
            threads.append(threading.Thread(target=_request, args=(sock, head, schedule, found), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return Latencies(tuple(sorted(found)), count - len(found))


def _request(sock: socket.socket, head: bytes, schedule: list[float], found: list[float]) -> None:
    """One connection's requests; once it is broken, the rest of them are missing from what is found."""
    with contextlib.suppress(OSError):
        for due in schedule:
            time.sleep(max(0, due - time.perf_counter()))
            sock.sendall(head)
            if is_answered(sock):
                found.append((time.perf_counter() - due) * 1000)


def is_answered(sock: socket.socket) -> bool:
    """Read one answer; is it a 200?"""
    return receive_answer(sock).startswith(b"HTTP/1.1 200 ")


def receive_answer(sock: socket.socket) -> bytes:
    """Read one answer, which must say its length. Raises OSError."""
    answer = b""
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += _receive(sock)
    length = _LENGTH.search(answer, 0, end)
    if length is None:
        raise ConnectionError("an answer without Content-Length")
    while len(answer) < end + 4 + int(length[1]):
        answer += _receive(sock)
    return answer


def _receive(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("the connection ended before the answer")
    return data
