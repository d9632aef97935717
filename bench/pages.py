"""Requests for one page over keep-alive connections, in a closed or an open loop.

Closed: each connection asks again as soon as it is answered, so that the slowest part sets the rate. Open: requests are
due at a fixed rate, dealt out to the connections in turn, and a request's latency counts from when it was due. One
thread per connection, as in `steady`.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.steady import receive_answer

_ANSWER_SECONDS = 20
_LEAD_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Page:
    """What is asked for. An answer counts if it is a 200 and has all of `parts`."""

    address: tuple[str, int]
    path: str
    parts: tuple[bytes, ...] = ()

    def is_complete(self, answer: bytes) -> bool:
        return answer.startswith(b"HTTP/1.1 200 ") and all(it in answer for it in self.parts)

    def ask(self, sock: socket.socket) -> bool:
        """Whether the answer counts. Raises OSError."""
        sock.sendall(f"GET {self.path} HTTP/1.1\r\nHost: {self.address[0]}\r\n\r\n".encode())
        return self.is_complete(receive_answer(sock))


@dataclass(frozen=True, slots=True)
class Load:
    """`milliseconds` of the answers that count, ascending; how many of the requests do not; and how long it took."""

    milliseconds: tuple[float, ...]
    failed: int
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    def percentile(self, percent: int) -> float:
        return self.milliseconds[len(self.milliseconds) * percent // 100]


def closed(page: Page, *, connections: int, seconds: float) -> Load:
    end = time.perf_counter() + seconds

    def always() -> Iterator[float]:
        while (now := time.perf_counter()) < end:
            yield now

    return _load(page, [always() for _ in range(connections)])


def opened(page: Page, *, rate: float, connections: int, seconds: float) -> Load:
    """`rate` is in requests per second, of all connections together."""
    start, count = time.perf_counter() + _LEAD_SECONDS, max(1, round(rate * seconds))
    dues = [[start + number / rate for number in range(first, count, connections)] for first in range(connections)]
    return _load(page, dues)


def _load(page: Page, schedules: Iterable[Iterable[float]]) -> Load:
    found: list[float] = []
    failures: list[str] = []
    began = time.perf_counter()
    threads = [threading.Thread(target=_connection, args=(page, it, found, failures)) for it in schedules]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    return Load(tuple(sorted(found)), len(failures), time.perf_counter() - began)


def _connection(page: Page, dues: Iterable[float], found: list[float], failures: list[str]) -> None:
    """One connection's requests. After a failure it is made anew."""
    with contextlib.ExitStack() as stack:
        sock: socket.socket | None = None
        for due in dues:
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                if sock is None:
                    sock = stack.enter_context(socket.create_connection(page.address, _ANSWER_SECONDS))
                counts = page.ask(sock)
            except OSError as error:
                failures.append(str(error))
                sock = None
                continue
            if counts:
                found.append((time.perf_counter() - due) * 1000)
            else:
                failures.append("the page is not complete")
