from datetime import UTC, datetime

import pytest

from policies.schedule import Schedule, check_cron


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_it_is_on_from_its_beginning_to_just_before_its_end() -> None:
    it = Schedule(at("2026-01-01T10:00"), at("2026-01-01T11:00"))

    moments = [at(f"2026-01-01T{time}") for time in ("09:59:59", "10:00", "10:59:59", "11:00")]

    assert [it.is_on(moment) for moment in moments] == [False, True, True, False]


def test_cron_turns_it_on_for_a_while_each_time() -> None:
    it = Schedule(cron="0 9 * * 1-5", lasts_seconds=1800)

    assert it.is_on(at("2026-11-23T09:00"))  # a Monday
    assert it.is_on(at("2026-11-23T09:29:59.9"))
    assert not it.is_on(at("2026-11-23T09:30"))
    assert not it.is_on(at("2026-11-23T08:59:59.9"))
    assert not it.is_on(at("2026-11-22T09:00"))


def test_a_while_may_reach_into_the_next_day_and_over_the_next_time() -> None:
    late = Schedule(cron="30 23 * * *", lasts_seconds=3600)
    always = Schedule(cron="*/5 * * * *", lasts_seconds=600)

    assert late.is_on(at("2026-11-23T00:15"))
    assert not late.is_on(at("2026-11-23T00:30"))
    assert always.is_on(at("2026-11-23T00:04:59"))


def test_cron_counts_only_between_beginning_and_end() -> None:
    it = Schedule(at("2026-11-23T09:10"), None, "0 9 * * *", 1800)

    assert not it.is_on(at("2026-11-23T09:05"))
    assert it.is_on(at("2026-11-23T09:15"))


@pytest.mark.parametrize("text", ["", "* * * *", "61 * * * *", "0 0 0 * * *", "@daily", "0 0 30 2 *"])
def test_what_is_no_cron_expression_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is not a cron expression"):
        check_cron(text)
