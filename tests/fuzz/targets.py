"""Coverage-guided fuzzing of the codecs (atheris), for `make fuzz`: `invariants.py` on inputs that reach new code.

    python -m tests.fuzz.targets                 each target for its part of FUZZ_SECONDS
    python -m tests.fuzz.targets requests FILE   one target on one input, as a failed run has kept it

The corpus of `tests/wire` seeds it. Inputs that break an invariant are kept in `build/fuzz`; their bytes belong into
the corpus once they are understood.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["waypoint.http", "l4.http2"], enable_loader_override=False):
    from tests.fuzz.invariants import METHODS, check_frames, check_path, check_requests, check_response

from tests.wire import corpus
from tests.wire.frame_script import Writer

KEPT = Path("build", "fuzz")
SECONDS = float(os.environ.get("FUZZ_SECONDS", "120"))
MAX_BYTES = 4096
"""Of an input: more than any rule but the large limits looks at."""


def requests(data: bytes) -> None:
    check_requests(data, _places(data))


def responses(data: bytes) -> None:
    """The first byte chooses the request's method."""
    check_response(data[1:], _places(data), METHODS[data[0] % len(METHODS)])


def paths(data: bytes) -> None:
    check_path(data)


def frames(data: bytes) -> None:
    """The first byte chooses who sends them."""
    check_frames(data[1:], _places(data), is_client=data[0] % 2 == 0)


TARGETS: dict[str, Callable[[bytes], None]] = {it.__name__: it for it in (requests, responses, paths, frames)}


def _places(data: bytes) -> list[int]:
    """Where to cut, out of the data, so that an input alone shows what went wrong."""
    return [int.from_bytes(data[start : start + 2]) for start in (0, len(data) // 2, len(data) - 2) if start >= 0]


def _seeds(target: str) -> Iterator[bytes]:
    match target:
        case "requests":
            yield from (case.send for case in corpus.requests())
        case "responses":
            yield from (bytes([METHODS.index(case.method)]) + case.send for case in corpus.responses())
        case "paths":
            yield from (case.send.split(b" ")[1] for case in corpus.requests() if case.send.count(b" ") > 1)
        case "frames":
            yield from (bytes([not case.is_client]) + b"".join(Writer().write(case.script)) for case in corpus.http2())


def fuzz(target: str, options: list[str]) -> None:
    def run(data: bytes) -> None:
        if data:
            TARGETS[target](data)

    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


def fuzz_all() -> int:
    """Every target in a process of its own; how many of them failed."""
    failed = 0
    for target in TARGETS:
        seeds = KEPT / target
        seeds.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(it for it in _seeds(target) if len(it) <= MAX_BYTES):
            seeds.joinpath(f"seed-{number}").write_bytes(seed)
        seconds = max(1, round(SECONDS / len(TARGETS)))
        limits = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", "-timeout=10", "-rss_limit_mb=1024"]
        command = [sys.executable, "-m", "tests.fuzz.targets", target, *limits, f"-artifact_prefix={KEPT}/", str(seeds)]
        print(f"{target}: {seconds} s", flush=True)
        failed += subprocess.run([*command, "-print_final_stats=1", "-verbosity=0"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fuzz(sys.argv[1], sys.argv[2:])
    else:
        sys.exit(fuzz_all())
