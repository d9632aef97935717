"""As many requests or unary gRPC calls as a few HTTP/2 connections can carry: h2load, and what it counted.

It looks at no more than the status of HTTP; so one call is made by the real grpcio first, which wants the message and
the trailers.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass

import grpc

from bench.wrk import Void

_CONNECTIONS = 4
_STREAMS = 16
_SPARE_SECONDS = 30
_CALLS_SECONDS = 300
_METHOD = "/echo.Echo/Unary"
_MESSAGE = b"hello"
_GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")
_DONE = re.compile(r"^requests: .*?(\d+) succeeded, (\d+) failed, (\d+) errored", re.MULTILINE)
_RATE = re.compile(r"^finished in .*?, ([0-9.]+) req/s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    requests: int
    per_second: float


def call(address: tuple[str, int]) -> None:
    """One call. Raises Void."""
    with grpc.insecure_channel(f"{address[0]}:{address[1]}") as channel:
        try:
            answer = channel.unary_unary(_METHOD)(_MESSAGE, timeout=2)
        except grpc.RpcError as error:
            raise Void(f"a gRPC call failed: {error}") from None
    if answer != _MESSAGE:
        raise Void(f"a gRPC call was answered with {answer!r}")


def run(address: tuple[str, int], *, seconds: int, path: str = "") -> Load:
    """GET requests for `path`, or without one unary calls. Raises Void."""
    return _run(address, path, seconds + _SPARE_SECONDS, "-D", str(seconds))


def calls(address: tuple[str, int], number: int) -> None:
    """So many unary calls, however long they take up to a limit. Raises Void."""
    if _run(address, "", _CALLS_SECONDS, "-n", str(number)).requests != number:
        raise Void(f"fewer than {number} calls were answered")


def _run(address: tuple[str, int], path: str, limit_seconds: int, *until: str) -> Load:
    url = f"http://{address[0]}:{address[1]}{path or _METHOD}"
    sizes = (*until, "-c", str(_CONNECTIONS), "-m", str(_STREAMS))
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(_MESSAGE).to_bytes(4) + _MESSAGE)
        body.flush()
        what = () if path else (*_GRPC, "-d", body.name)
        command = ["h2load", *sizes, *what, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_seconds)
    if done.returncode:
        raise Void(f"h2load ended with status {done.returncode}: {done.stderr.strip()}")
    return parse(done.stdout)


def parse(output: str) -> Load:
    """Read what h2load prints. Raises Void."""
    counts, rate = _DONE.search(output), _RATE.search(output)
    if counts is None or rate is None or counts[1] == "0":
        raise Void(f"h2load counted no requests: {output}")
    if counts[2] != "0" or counts[3] != "0":
        raise Void(counts[0])
    return Load(int(counts[1]), float(rate[1]))
