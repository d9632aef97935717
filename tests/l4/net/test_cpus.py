import os

import pytest

from l4.net.cpus import quota_of, usable_cpus


@pytest.mark.parametrize(
    ("text", "quota"),
    [("150000 100000\n", 1.5), ("max 100000\n", None), ("-1\n 100000\n", None), (" ", None), ("200000\n 100000", 2.0)],
)
def test_a_quota_is_read_as_cpus(text: str, quota: float | None) -> None:
    assert quota_of(text) == quota


def test_a_process_has_at_least_one_cpu_and_no_more_than_it_may_run_on() -> None:
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))
