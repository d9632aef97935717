import pytest

from bench import h2load
from bench.wrk import Void

_OUTPUT = """\
finished in 2.00s, 9535.02 req/s, 336.24KB/s
requests: 19070 total, 19134 started, 19070 done, 19070 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 19070 2xx, 0 3xx, 0 4xx, 0 5xx
"""


def test_requests_and_rate_are_read() -> None:
    assert h2load.parse(_OUTPUT) == h2load.Load(requests=19070, per_second=9535.02)


@pytest.mark.parametrize(
    "change", [("0 failed", "3 failed"), ("0 errored", "1 errored"), ("19070 succeeded", "0 succeeded")]
)
def test_what_failed_or_never_came_voids_the_figures(change: tuple[str, str]) -> None:
    with pytest.raises(Void):
        h2load.parse(_OUTPUT.replace(*change))
