"""As many requests as a number of keep-alive connections can carry: wrk, and what it counted."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_PERCENTILE = re.compile(r"^ +(50|99)% +([0-9.]+)(us|ms|s)$", re.MULTILINE)
_COUNT = re.compile(r"^ +(\d+) requests in ", re.MULTILINE)
_RATE = re.compile(r"^Requests/sec: +([0-9.]+)$", re.MULTILINE)
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_MISTAKES = ("Non-2xx", "Socket errors")
_SPARE_SECONDS = 30
_VARIED = """
local number = 0
request = function()
  number = number + 1
  wrk.headers["x-number"] = number
  return wrk.format()
end
"""


class Void(Exception):
    """The figures don't count: an answer was not 2xx, or a connection broke."""


@dataclass(frozen=True, slots=True)
class Load:
    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float


def run(
    address: tuple[str, int],
    *,
    connections: int,
    seconds: int,
    path: str = "/",
    headers: Mapping[str, str] = MappingProxyType({}),
    body_bytes: int = 0,
    varies: bool = False,
) -> Load:
    """A request with a body is a POST. With `varies` no request has the head of another one. Raises Void."""
    url = f"http://{address[0]}:{address[1]}{path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    command += (part for name, value in headers.items() for part in ("-H", f"{name}: {value}"))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if body_bytes:
            script.write(f'wrk.method = "POST"\nwrk.body = string.rep("x", {body_bytes})\n')
        if varies:
            script.write(_VARIED)
        if body_bytes or varies:
            script.flush()
            command += ("-s", script.name)
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=seconds + _SPARE_SECONDS)
    if done.returncode:
        raise Void(f"wrk ended with status {done.returncode}: {done.stderr.strip()}")
    return parse(done.stdout)


def parse(output: str) -> Load:
    """Read what `wrk --latency` prints. Raises Void."""
    for line in output.splitlines():
        if any(mistake in line for mistake in _MISTAKES):
            raise Void(line.strip())
    count, rate = _COUNT.search(output), _RATE.search(output)
    latency = {percent: float(value) * _MILLISECONDS[unit] for percent, value, unit in _PERCENTILE.findall(output)}
    if count is None or rate is None or count[1] == "0" or latency.keys() != {"50", "99"}:
        raise Void(f"wrk counted no requests: {output}")
    return Load(int(count[1]), float(rate[1]), latency["50"], latency["99"])
