"""The decision after a failed attempt, for one exchange; through a whole mesh: tests/waypoint/test_retries.py."""

import pytest

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName
from policies.balancing.endpoint import Endpoint
from policies.outcome import Ending, Outcome
from policies.retry import Condition, RetryPolicy
from policies.retry_budget import RetryBudget
from waypoint.config.snapshot import UNKNOWN_SERVICE, ClusterConfig
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.events import ClusterEvent
from waypoint.upstream.retrying import Retrying

ONE, TWO = (Endpoint(f"10.0.0.{n}", 9080, None) for n in (1, 2))
POLICY = RetryPolicy(frozenset({Condition.RESET, Condition.CONNECT_FAILURE}), attempts=2)
RESET, UNDELIVERED = Outcome(Ending.RESET), Outcome(Ending.CONNECT_FAILURE)
STALE = Outcome(Ending.RESET, is_stale=True)


class Lab:
    """A destination whose budget bears so many retries at once."""

    def __init__(self, policy: RetryPolicy = POLICY, retries: int = 1) -> None:
        budget = RetryBudget(percent=0, min_concurrency=retries)
        config = ClusterConfig(
            ClusterName("c"), UNKNOWN_SERVICE, 9080, AppProtocol.HTTP, (ONE, TWO), retry_budget=budget
        )
        self.cluster = Cluster(config)
        self.policy = policy
        self.events: list[ClusterEvent] = []

    def exchange(self) -> Retrying:
        return Retrying(self.policy, self.cluster, self.events.append)


def test_a_retry_waits_and_remembers_where_the_attempt_was() -> None:
    lab = Lab()
    exchange = lab.exchange()

    pause = exchange.pause(1, RESET, ONE)

    assert pause is not None
    assert 0 <= pause <= POLICY.backoff
    assert exchange.tried == {ONE}
    assert lab.events == [ClusterEvent.RETRY, ClusterEvent.BACKOFF_EXPONENTIAL]


def test_after_the_last_attempt_there_is_none() -> None:
    lab = Lab()
    exchange = lab.exchange()

    assert exchange.pause(3, RESET, ONE) is None

    assert exchange.has_given_up
    assert lab.events == [ClusterEvent.LIMIT_EXCEEDED]


def test_a_retry_that_the_budget_cannot_bear_is_not_made() -> None:
    lab = Lab()
    first, second = lab.exchange(), lab.exchange()
    first.pause(1, RESET, ONE)
    lab.events.clear()

    assert second.pause(1, RESET, ONE) is None

    assert lab.events == [ClusterEvent.OVERFLOW]


def test_the_budget_is_charged_once_for_the_retries_of_an_exchange_and_given_back() -> None:
    lab = Lab()
    exchange = lab.exchange()

    exchange.pause(1, RESET, ONE)
    exchange.pause(2, RESET, TWO)
    during = lab.cluster.retries.under_way
    exchange.release()
    exchange.release()

    assert (during, lab.cluster.retries.under_way) == (1, 0)


@pytest.mark.parametrize("outcome", [UNDELIVERED, STALE])
def test_what_reached_nobody_is_free(outcome: Outcome) -> None:
    lab = Lab(retries=0)
    exchange = lab.exchange()

    assert exchange.pause(1, outcome, ONE) is not None

    assert lab.cluster.retries.under_way == 0


def test_after_a_stale_connection_the_retry_is_made_at_once() -> None:
    assert Lab().exchange().pause(1, STALE, ONE) == 0.0


@pytest.mark.parametrize(("seconds", "waits"), [(b"2", True), (b"86400", False)])
def test_an_endpoint_says_when_to_come_again_unless_that_is_too_late(seconds: bytes, waits: bool) -> None:
    lab = Lab()
    outcome = Outcome(Ending.RESPONSE, 503, [(b"retry-after", seconds)])

    pause = lab.exchange().pause(1, outcome, ONE)

    assert (pause is not None and pause >= 2) is waits
    assert (ClusterEvent.BACKOFF_RATELIMITED in lab.events) is waits


def test_endpoints_are_not_avoided_where_the_policy_does_not_ask_for_it() -> None:
    exchange = Lab(RetryPolicy(POLICY.conditions, avoids_tried=False)).exchange()

    exchange.pause(1, RESET, ONE)

    assert exchange.tried == set()


def test_an_exchange_that_gave_up_is_no_success() -> None:
    lab = Lab()
    given_up, well = lab.exchange(), lab.exchange()
    given_up.pause(3, RESET, ONE)
    lab.events.clear()

    given_up.finished()
    well.finished()

    assert lab.events == [ClusterEvent.SUCCESS]
