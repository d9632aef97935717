import pytest

from bench import wrk

_OUTPUT = """\
Running 2s test @ http://127.0.0.1:18080/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.65ms  500.00us  12.00ms   90.00%
    Req/Sec     9.01k     1.00k   10.00k    75.00%
  Latency Distribution
     50%  980.00us
     75%    1.70ms
     90%    2.00ms
     99%    1.02s
  17794 requests in 2.00s, 7.99MB read
Requests/sec:   8897.12
Transfer/sec:      4.00MB
"""


def test_counts_rates_and_percentiles_are_read_whatever_their_unit() -> None:
    assert wrk.parse(_OUTPUT) == wrk.Load(requests=17794, per_second=8897.12, p50_ms=0.98, p99_ms=1020.0)


@pytest.mark.parametrize(
    "line",
    [
        "  Non-2xx or 3xx responses: 12",
        "  Socket errors: connect 0, read 3, write 0, timeout 0",
    ],
)
def test_a_wrong_answer_or_a_broken_connection_voids_the_figures(line: str) -> None:
    with pytest.raises(wrk.Void, match=line.strip()):
        wrk.parse(_OUTPUT.replace("Requests/sec", f"{line}\nRequests/sec"))


def test_figures_of_no_request_are_void() -> None:
    with pytest.raises(wrk.Void, match="counted no requests"):
        wrk.parse(_OUTPUT.replace("17794 requests", "0 requests"))
