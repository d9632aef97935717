import os
import threading
import time
from pathlib import Path

import pytest

from l4.telemetry.access_log import AccessLog, CannotOpenLog, StartTime, open_access_log
from l4.telemetry.line_writer import LONG_LINE, MAX_LONG_LINES


def test_lines_arrive_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))

    for number in range(1000):
        log.write(f"line {number}\n".encode())
    log.close()

    assert path.read_text() == "".join(f"line {number}\n" for number in range(1000))
    assert log.dropped == 0


def test_lines_arrive_without_waiting_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), flush_seconds=0.01)

    log.write(b"early\n")

    deadline = time.monotonic() + 5
    while not path.read_text() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert path.read_text() == "early\n"
    log.close()


def test_no_line_waits_for_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), flush_seconds=0.0001)
    size = 0

    for number in range(3000):
        log.write(b"line\n")
        size += 5
        if number % 10 == 0:
            log.flush(5.0)
            assert path.stat().st_size == size
    log.close()


def test_the_thread_sleeps_while_there_is_nothing_to_write(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "access.log"), flush_seconds=0.001, name="quiet log")
    (thread,) = (it.native_id for it in threading.enumerate() if it.name == "quiet-log")
    its = Path(f"/proc/self/task/{thread}")
    log.write(b"line\n")
    log.flush(5.0)
    time.sleep(0.1)

    before = switches(its)
    time.sleep(0.3)

    assert switches(its) == before
    log.close()


def switches(thread: Path) -> int:
    """How often a thread has waited."""
    lines = (thread / "status").read_text().splitlines()
    return next(int(it.split()[1]) for it in lines if it.startswith("voluntary"))


def test_an_existing_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("old\n")

    log = AccessLog(str(path))
    log.write(b"new\n")
    log.close()

    assert path.read_text() == "old\nnew\n"


def test_a_file_that_cannot_be_opened_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AccessLog(str(tmp_path / "missing" / "access.log"))


def test_a_blocked_reader_costs_lines_but_no_time(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(pipe), max_lines=100, flush_seconds=0.001)
    line = b"x" * 1023 + b"\n"

    started = time.monotonic()
    while not log.dropped and time.monotonic() < started + 10:
        log.write(line)
        time.sleep(0)
    before = time.monotonic()
    log.write(line)
    writing_seconds = time.monotonic() - before
    log.close(deadline_seconds=0.05)
    closing_seconds = time.monotonic() - before

    assert log.dropped
    assert writing_seconds < 0.05
    assert closing_seconds < 1
    os.close(reader)
    log.close()


def test_a_named_pipe_that_nobody_reads_yet_keeps_nobody_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    log = AccessLog(str(pipe), flush_seconds=0.001)
    log.write(b"early\n")
    with pipe.open("rb", buffering=0) as reader:
        assert reader.read(6) == b"early\n"
    log.close()


def test_what_waits_is_bounded_in_size_too(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    log = AccessLog(str(pipe))

    for _ in range(MAX_LONG_LINES * 3):  # the thread may take as many out once, and then nobody reads
        log.write(b"x" * LONG_LINE + b"\n")
    log.write(b"short\n")

    assert MAX_LONG_LINES <= log.dropped <= MAX_LONG_LINES * 2
    assert log.drops.full.value == log.dropped
    log.close(deadline_seconds=0.05)


def test_long_lines_have_room_again_when_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), flush_seconds=0.001)

    for _ in range(MAX_LONG_LINES * 3):
        log.write(b"x" * LONG_LINE + b"\n")
        log.flush(5)
    log.close()

    assert log.dropped == 0
    assert path.stat().st_size == MAX_LONG_LINES * 3 * (LONG_LINE + 1)


def test_a_file_that_cannot_be_opened_is_a_sentence_to_an_operator(tmp_path: Path) -> None:
    with pytest.raises(CannotOpenLog, match=r"access log .*missing/log cannot be written: No such file or directory; "):
        open_access_log(str(tmp_path / "missing" / "log"))


def test_a_full_disk_costs_lines_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full", flush_seconds=0.001)

    for _ in range(3):
        dropped = log.dropped
        log.write(b"lost\n")
        while log.dropped == dropped:
            time.sleep(0.001)
    log.close()

    assert log.dropped == 3
    assert [record.getMessage() for record in caplog.records] == [
        "access log /dev/full: [Errno 28] No space left on device; lines are dropped until writing succeeds again"
    ]


def test_start_times_have_milliseconds_and_z() -> None:
    start_time = StartTime()

    assert start_time.format(0) == b"1970-01-01T00:00:00.000Z"
    assert start_time.format(1_700_000_000.123) == b"2023-11-14T22:13:20.123Z"
    assert start_time.format(1_700_000_000.9996) == b"2023-11-14T22:13:21.000Z"
    assert start_time.format(1_700_000_000.5) == b"2023-11-14T22:13:20.500Z"


def test_a_file_with_a_limit_becomes_the_one_before_and_no_line_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    log = AccessLog(str(path), flush_seconds=0.001, max_bytes=100)

    for number in range(40):
        log.write(f"line {number:4}\n".encode())
        deadline = time.monotonic() + 5
        while not _ends_with(path, f"line {number:4}\n") and time.monotonic() < deadline:
            time.sleep(0.001)
    log.close()

    assert path.stat().st_size <= 100
    before = (tmp_path / "heads.1").read_text()
    assert before == "".join(f"line {number:4}\n" for number in range(20, 30))
    assert path.read_text() == "".join(f"line {number:4}\n" for number in range(30, 40))
    assert log.dropped == 0


def _ends_with(path: Path, line: str) -> bool:
    try:
        return path.read_text().endswith(line)
    except FileNotFoundError:  # between putting the full one aside and beginning anew
        return False


def test_a_file_that_cannot_be_put_aside_grows_no_further(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    path.write_text("x" * 100)
    (tmp_path / "heads.1").mkdir()
    log = AccessLog(str(path), max_bytes=100)

    log.write(b"more\n")
    log.close()

    assert path.read_text() == "x" * 100
    assert log.dropped == 1


def test_a_file_that_was_moved_away_is_opened_anew_and_no_line_is_lost(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(str(path), flush_seconds=0.01)
    log.write(b"before\n")
    log.flush(5)

    path.rename(moved)
    log.reopen()
    log.write(b"after\n")
    log.close()

    assert moved.read_text() == "before\n"
    assert path.read_text() == "after\n"


def test_a_name_that_cannot_be_opened_anew_leaves_the_file_that_is_open(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AccessLog(str(folder / "access.log"), flush_seconds=0.01)
    folder.rename(tmp_path / "moved")

    log.reopen()
    log.write(b"kept\n")
    log.close()

    assert (tmp_path / "moved" / "access.log").read_text() == "kept\n"
    assert log.dropped == 0
