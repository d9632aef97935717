import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench import steady

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@contextmanager
def origin(answer: Callable[[int], bytes]) -> Iterator[tuple[str, int]]:
    """Answers one request after the other, over all connections, with what `answer` makes of the request's number."""
    turn = threading.Lock()
    numbers = iter(range(10_000))

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65536):
                with turn:
                    data = answer(next(numbers))
                if not data:
                    return
                self.request.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield "127.0.0.1", server.server_address[1]
        server.shutdown()


def test_a_stall_shows_in_every_request_that_was_due_meanwhile() -> None:
    def stall_once(number: int) -> bytes:
        if number == 20:
            time.sleep(0.4)
        return _OK

    with origin(stall_once) as address:
        latencies = steady.measure(address, rate=200, seconds=1)

    delayed = [it for it in latencies.milliseconds if it > 100]
    assert latencies.failed == 0
    assert len(latencies.milliseconds) == 200
    assert 50 <= len(delayed) <= 90  # due in the first 0.3 s of the stall: 60, and a few more on a busy machine
    assert latencies.percentile(99) > 300


def test_an_answer_other_than_200_counts_as_failed() -> None:
    def refuse_some(number: int) -> bytes:
        return b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n" if number < 3 else _OK

    with origin(refuse_some) as address:
        latencies = steady.measure(address, rate=200, seconds=0.25)

    assert latencies.failed == 3
    assert len(latencies.milliseconds) == 47


def test_what_a_broken_connection_still_had_to_send_counts_as_failed() -> None:
    def close_one(number: int) -> bytes:
        return b"" if number == 0 else _OK

    with origin(close_one) as address:
        latencies = steady.measure(address, rate=320, seconds=0.25)

    assert latencies.failed == 5  # 80 requests over 16 connections
    assert len(latencies.milliseconds) == 75
