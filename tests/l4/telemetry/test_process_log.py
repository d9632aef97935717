"""The log of a program, in separate processes whose standard error is read or not read."""

import subprocess
import sys
import time

from l4.telemetry.process_log import BURST, Sampler

PREAMBLE = """
import logging, sys, warnings
from l4.telemetry.process_log import EACH, ProcessLog
log = logging.getLogger("here")
with ProcessLog() as process_log:
"""


def _printed(code: str, returncode: int = 0) -> list[str]:
    """The lines on standard error, without times."""
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    answer = subprocess.run([sys.executable, "-c", PREAMBLE + body], capture_output=True, text=True, timeout=20)
    assert answer.returncode == returncode, answer.stderr
    return [line.partition(" INFO ")[2] or line for line in answer.stderr.splitlines()]


def test_of_each_place_in_the_code_so_many_lines_are_written_and_the_next_one_says_how_many_were_not() -> None:
    sampler, place, other = Sampler(), ("a.py", 1), ("a.py", 2)

    at_once = [sampler.take(place, 100.0) for _ in range(BURST + 50)]

    assert at_once == [0] * BURST + [None] * 50
    assert sampler.take(other, 100.0) == 0
    assert sampler.take(place, 100.9) is None
    assert sampler.take(place, 101.1) == 51
    assert sampler.take(place, 101.2) is None
    assert [sampler.take(place, 1000.0) for _ in range(BURST + 1)] == [1] + [0] * (BURST - 1) + [None]


def test_lines_like_each_other_are_sampled_and_others_are_not() -> None:
    lines = _printed("""
for number in range(100):
    log.info("refused %d", number)
    log.info("told %d", number, extra=EACH)
process_log.write(str(process_log.drops.sampled.value))
""")

    assert [line for line in lines if "refused" in line] == [f"here: refused {number}" for number in range(BURST)]
    assert [line for line in lines if "told" in line] == [f"here: told {number}" for number in range(100)]
    assert lines[-1] == str(100 - BURST)


def test_debug_lines_are_all_written_when_somebody_asks_for_them() -> None:
    lines = _printed("""
logging.getLogger().setLevel("DEBUG")
for number in range(100):
    log.debug("looked at %d", number)
""")

    assert len(lines) == 100


def test_a_peer_forges_no_line() -> None:
    assert _printed(r'log.info("from %s", "a\n2026-01-01 INFO here: b\x1b[2Jc")') == [
        r"here: from a\n2026-01-01 INFO here: b\x1b[2Jc"
    ]


def test_whatever_else_is_printed_takes_the_same_way() -> None:
    lines = _printed("""
print("printed", file=sys.stderr)
warnings.warn("warned")
class Broken:
    def __del__(self): raise ValueError("in the end")
Broken()
""")

    assert lines[0] == "printed"
    assert any("warned" in line for line in lines)
    assert lines[-1] == "ValueError: in the end"


def test_why_a_program_ends_is_written_last() -> None:
    lines = _printed("log.info('begins')\nraise ValueError('unforeseen')", returncode=1)

    assert lines[0] == "here: begins"
    assert lines[-1] == "ValueError: unforeseen"
    assert sum("ValueError: unforeseen" in line for line in lines) == 1  # 3.13 also shows the source line


def test_a_program_whose_standard_error_nobody_reads_goes_on_and_ends() -> None:
    code = (
        PREAMBLE
        + """
    for number in range(50_000):
        log.warning("%s", "x" * 100, extra=EACH)
        print("y" * 100, file=sys.stderr)
    print(process_log.drops.full.value, flush=True)
    raise ValueError("unforeseen")
"""
    )
    started = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        dropped = int(process.stdout.readline())

        assert process.wait(20) == 1
    assert dropped > 90_000
    assert time.monotonic() - started < 20
