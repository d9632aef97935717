"""As many requests as HTTP/2 with prior knowledge can carry on a few connections: h2load, and what it counted."""

import re
import subprocess
from dataclasses import dataclass

from bench.wrk import Void

_CONNECTIONS = 4
_STREAMS = 16
_SPARE_SECONDS = 30
_GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")
_DONE = re.compile(r"^requests: .*?(\d+) succeeded, (\d+) failed, (\d+) errored", re.MULTILINE)
_RATE = re.compile(r"^finished in .*?, ([0-9.]+) req/s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    requests: int
    per_second: float


def run(address: tuple[str, int], *, seconds: int) -> Load:
    """Requests that look like gRPC's. Raises Void."""
    url = f"http://{address[0]}:{address[1]}/echo.Echo/Unary"
    sizes = ("-D", str(seconds), "-c", str(_CONNECTIONS), "-m", str(_STREAMS))
    done = subprocess.run(
        ["h2load", *sizes, *_GRPC, url], capture_output=True, text=True, timeout=seconds + _SPARE_SECONDS
    )
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
