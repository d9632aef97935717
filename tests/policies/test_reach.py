"""The time for which an unreachable endpoint is avoided, and its next attempt."""

from policies.reach import LONGEST_PAUSE, Reach


def trial(reach: Reach, now: float) -> float:
    """When it is time, from `now` on, in steps of a tenth; nobody else is given the same trial."""
    while not reach.take_trial(now):
        now += 0.1
    assert not reach.take_trial(now)
    return now


def test_an_endpoint_of_which_nothing_is_known_is_not_avoided() -> None:
    assert not Reach().is_avoided
    assert not Reach().take_trial(1e9)


def test_each_failed_trial_doubles_the_pause_up_to_a_minute() -> None:
    reach, now, pauses = Reach(), 0.0, []

    reach.failed(now)
    for _ in range(8):
        tried = trial(reach, now)
        pauses.append(round(tried - now))
        now = tried
        reach.failed(now)

    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE]


def test_connections_that_fail_together_are_one_failure_and_one_piece_of_news() -> None:
    reach = Reach()

    news = [reach.failed(now / 100) for now in range(50)]

    assert news == [True] + [False] * 49
    assert round(trial(reach, 0.0)) == 1


def test_a_connection_that_stands_makes_it_as_good_as_new() -> None:
    reach = Reach()
    for now in (0.0, 5.0, 10.0):
        reach.failed(now)
        reach.take_trial(now + 5)

    assert reach.reached()

    assert not reach.is_avoided
    assert not reach.is_doubtful
    reach.failed(20.0)
    assert round(trial(reach, 20.0)) == 21


def test_a_trial_that_got_through_is_believed_once() -> None:
    """TCP may be accepted where TLS isn't: a request finds out, and the pause goes on to grow."""
    reach = Reach()
    reach.failed(0.0)
    trial(reach, 0.0)

    assert reach.passed()
    assert not reach.is_avoided
    assert reach.failed(1.0)
    assert round(trial(reach, 1.0)) == 3
