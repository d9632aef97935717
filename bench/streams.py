"""gRPC streams: a server of them as a process, `python -m bench.streams HOST:PORT`, and a client that counts messages.

Both are grpcio's. What they cost is not measured.
"""

import signal
import sys
import threading
import time

import grpc

from bench.wrk import Void
from tests.kit.grpc_echo import SERVICE, echo_server

_CALLS = 4
_MESSAGES = 500
_QUESTION = b"%100d" % _MESSAGES
"""What comes back as each message, too. Smaller ones would be a flood of tiny frames, HTTP2_TINY_DATA_FRAMES."""

_CALL_SECONDS = 30


def run(address: tuple[str, int], *, seconds: float) -> int:
    """Let a few clients be sent messages in streams for so long. Returns how many came. Raises Void."""
    counts: list[int] = []
    failures: list[str] = []
    deadline = time.monotonic() + seconds

    def call() -> None:
        with grpc.insecure_channel(f"{address[0]}:{address[1]}") as channel:
            repeat = channel.unary_stream(f"/{SERVICE}/Repeat")
            try:
                while time.monotonic() < deadline:
                    counts.append(sum(1 for _ in repeat(_QUESTION, timeout=_CALL_SECONDS)))
            except grpc.RpcError as error:
                failures.append(str(error))

    threads = [threading.Thread(target=call, daemon=True) for _ in range(_CALLS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures or any(it != _MESSAGES for it in counts):
        raise Void(f"a stream failed: {failures[0] if failures else 'messages are missing'}")
    return sum(counts)


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    with echo_server(host, int(port)):
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
