from policies.breaker import MAX_OPEN, Breaker


def fail(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        assert breaker.take(now)
        breaker.failed()
        breaker.release()


def test_a_service_that_answers_is_always_asked() -> None:
    breaker = Breaker()

    fail(breaker, 4)
    assert breaker.take(0.0)
    breaker.answered()
    breaker.release()

    fail(breaker, 4)
    assert breaker.take(0.0)


def test_after_five_failures_in_a_row_one_question_a_second_is_asked_until_one_is_answered() -> None:
    breaker = Breaker()
    fail(breaker, 5)

    asked = [breaker.take(10.0 + tenth / 10) for tenth in range(25)]

    assert [number for number, was_asked in enumerate(asked) if was_asked] == [0, 10, 20]
    breaker.answered()
    assert breaker.take(12.5)
    assert breaker.take(12.5)


def test_so_many_questions_are_open_at_once() -> None:
    breaker = Breaker()

    assert all(breaker.take(0.0) for _ in range(MAX_OPEN))
    assert not breaker.take(0.0)
    breaker.release()
    assert breaker.take(0.0)
