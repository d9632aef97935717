"""Lists of calls: the results of attempts, their times, and the ejected endpoints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Headers
from policies.outcome import Ending, Outcome
from policies.outlier import Health, OutlierDetection, eject, panics, record, sweep

OK, ERROR, GATEWAY = (Outcome(Ending.RESPONSE, status) for status in (200, 500, 503))
REFUSED, LATE, RESET = (Outcome(ending) for ending in (Ending.CONNECT_FAILURE, Ending.TIMEOUT, Ending.RESET))
ALL = OutlierDetection(max_ejection_percent=100)


def reached(policy: OutlierDetection, *outcomes: Outcome) -> list[str]:
    health = Health()
    return [record(policy, health, outcome) for outcome in outcomes]


def grpc(status: int) -> Outcome:
    return Outcome(Ending.RESPONSE, 200, Headers([(b"grpc-status", b"%d" % status)]))


@pytest.mark.parametrize(
    ("policy", "outcomes", "expected"),
    [
        (OutlierDetection(consecutive_5xx=3), [ERROR] * 3, "consecutive_5xx"),
        (OutlierDetection(consecutive_5xx=3), [ERROR, ERROR, OK, ERROR, ERROR], ""),
        (OutlierDetection(consecutive_5xx=3), [REFUSED, LATE, RESET], "consecutive_5xx"),
        (OutlierDetection(consecutive_5xx=3), [grpc(14), grpc(13), grpc(4)], "consecutive_5xx"),
        (OutlierDetection(consecutive_5xx=3), [grpc(5), grpc(7), grpc(16)], ""),
        (OutlierDetection(consecutive_5xx=0), [ERROR] * 99, ""),
        (OutlierDetection(consecutive_gateway_errors=2), [GATEWAY, GATEWAY], "consecutive_gateway_failure"),
        (OutlierDetection(consecutive_gateway_errors=2), [GATEWAY, ERROR, GATEWAY], ""),
        (OutlierDetection(consecutive_gateway_errors=2), [REFUSED, LATE], "consecutive_gateway_failure"),
        (
            OutlierDetection(splits_local_origin=True, consecutive_local_origin_failures=2),
            [REFUSED, ERROR, REFUSED, REFUSED],
            "consecutive_local_origin_failure",
        ),
        (OutlierDetection(splits_local_origin=True, consecutive_5xx=2), [ERROR, REFUSED, REFUSED], ""),
    ],
)
def test_so_many_failures_in_a_row_reach_a_threshold(
    policy: OutlierDetection, outcomes: list[Outcome], expected: str
) -> None:
    assert reached(policy, *outcomes)[-1] == expected


def test_a_threshold_is_reached_again_after_as_many_failures() -> None:
    results = reached(OutlierDetection(consecutive_5xx=2), *[ERROR] * 6)

    assert [bool(it) for it in results] == [False, True] * 3


@pytest.mark.parametrize(
    ("percent", "count", "ejected"),
    [(10, 9, 0), (10, 10, 1), (50, 4, 2), (100, 4, 4), (100, 1, 1), (0, 4, 0)],
)
def test_no_more_are_out_than_may_be(percent: int, count: int, ejected: int) -> None:
    policy = OutlierDetection(max_ejection_percent=percent)
    healths = [Health() for _ in range(count)]

    assert sum(eject(policy, health, healths, 0.0) for health in healths) == ejected


def test_an_ejection_lasts_longer_each_time_up_to_five_minutes() -> None:
    health, other = Health(), Health()
    lasted, now = [], 0.0

    for _ in range(12):
        assert eject(ALL, health, [health, other], now)
        assert health.ejected_until is not None
        lasted.append(health.ejected_until - now)
        now = health.ejected_until
        assert sweep([health, other], now) == [health]

    assert lasted == [30.0 * n for n in range(1, 11)] + [300.0, 300.0]


def test_who_behaves_is_forgiven_one_ejection_at_each_sweep() -> None:
    health, other = Health(), Health()
    health.multiplier = 3

    for now in range(2):
        sweep([health, other], float(now))
    eject(ALL, health, [health, other], 10.0)

    assert health.ejected_until == 10.0 + 2 * 30.0


def test_who_is_out_comes_back_at_the_first_sweep_after_its_time() -> None:
    health, other = Health(), Health()
    eject(ALL, health, [health, other], 0.0)

    assert sweep([health, other], 29.9) == []
    assert health.is_ejected
    assert sweep([health, other], 30.0) == [health]
    assert not health.is_ejected


@pytest.mark.parametrize(("percent", "is_panic"), [(0, False), (50, False), (51, True)])
def test_ejections_are_ignored_when_too_few_are_left(percent: int, is_panic: bool) -> None:
    healths = [Health(), Health()]
    healths[0].ejected_until = 1.0

    assert panics(OutlierDetection(min_health_percent=percent), healths) is is_panic


@given(
    st.lists(st.sampled_from([OK, ERROR, GATEWAY, REFUSED, LATE, grpc(14), grpc(0)]), max_size=60),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_thresholds_agree_with_counting_all_over_again(outcomes: list[Outcome], five: int, gateway: int) -> None:
    policy = OutlierDetection(consecutive_5xx=five, consecutive_gateway_errors=gateway)

    assert [bool(it) for it in reached(policy, *outcomes)] == list(_slowly(outcomes, five, gateway))


def _slowly(outcomes: list[Outcome], five: int, gateway: int) -> list[bool]:
    """A threshold is reached when the run of failures that ends here is a multiple of it."""

    def run(index: int, wanted: set[int]) -> int:
        length = 0
        while index >= 0 and statuses[index] in wanted:
            length, index = length + 1, index - 1
        return length

    codes = {id(OK): 200, id(ERROR): 500, id(GATEWAY): 503, id(REFUSED): 503, id(LATE): 504}
    statuses = [codes.get(id(it)) or (503 if it.headers[0][1] == b"14" else 200) for it in outcomes]
    found = []
    for index in range(len(outcomes)):
        fives, gateways = run(index, {500, 503, 504}), run(index, {503, 504})
        found.append(bool((five and fives and fives % five == 0) or (gateway and gateways and gateways % gateway == 0)))
    return found
