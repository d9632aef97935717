import os
import time

from l4.vitals import vitals


def test_a_process_tells_its_age_and_what_it_takes() -> None:
    before = vitals()
    time.sleep(0.2)
    after = vitals()

    assert before["pid"] == os.getpid()
    assert isinstance(after["memory_bytes"], int)
    assert 1 << 20 < after["memory_bytes"] < 16 << 30
    assert after["uptime_seconds"] > before["uptime_seconds"]  # type: ignore[operator]
    with open(os.devnull):
        assert vitals()["open_files"] == after["open_files"] + 1  # type: ignore[operator]
