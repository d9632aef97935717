from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Identity, Peer, RequestHead
from policies.fault import Abort, Fault
from policies.fault_plan import ErrorWatch, FaultPlan, FaultRule, StopWhen
from policies.matching import Exact
from policies.schedule import Schedule
from policies.selector import HeaderCondition, IdentityCondition

BROKEN, SLOW = Fault(abort=Abort(500, 1.0)), Fault(abort=Abort(503, 1.0))
JASON = HeaderCondition(b"end-user", Exact(b"jason"))
STOP = StopWhen(0.5, 4, 60.0)


def find(plan: FaultPlan, user: bytes = b"jason", account: str = "page", now: float = 0.0) -> Fault | None:
    head = RequestHead(b"GET", b"app", b"/", b"", [(b"end-user", user)])
    return plan.find(head, Peer(Identity("cluster.local", "default", account), "10.0.0.1", 1), now)


def test_the_first_rule_that_is_for_the_request_strikes() -> None:
    page = IdentityCondition(service_accounts=("default/page",))
    plan = FaultPlan("plan", (FaultRule("0", BROKEN, (JASON, page)), FaultRule("1", SLOW, (page,))))

    assert find(plan) == BROKEN
    assert find(plan, user=b"kay") == SLOW
    assert find(plan, account="other") is None


def test_nothing_strikes_while_the_schedule_is_off() -> None:
    plan = FaultPlan("plan", (FaultRule("0", BROKEN),), Schedule(10.0, 20.0))

    assert [find(plan, now=now) for now in (9.0, 10.0, 20.0)] == [None, BROKEN, None]


def test_too_many_errors_stop_it_for_good() -> None:
    watch = ErrorWatch(STOP)
    for is_error in (True, True, False):
        watch.record(is_error=is_error, now=0.0)
    assert not watch.is_stopped

    watch.record(is_error=True, now=1.0)
    for _ in range(100):
        watch.record(is_error=False, now=2.0)

    assert watch.is_stopped


def test_errors_of_long_ago_do_not_count() -> None:
    watch = ErrorWatch(STOP)
    for _ in range(3):
        watch.record(is_error=True, now=0.0)
    for now in (60.0, 61.0, 62.0):
        watch.record(is_error=False, now=now)
    watch.record(is_error=True, now=63.0)

    assert not watch.is_stopped


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60))
def test_the_watch_counts_as_a_list_of_all_answers_would(steps: list[tuple[int, bool]]) -> None:
    watch = ErrorWatch(STOP)
    answers: list[tuple[int, bool]] = []
    now, is_stopped = 0, False
    for wait, is_error in steps:
        now += wait
        answers.append((now // 10, is_error))
        counted = [error for slice_number, error in answers if slice_number > now // 10 - 6]
        is_stopped |= len(counted) >= 4 and sum(counted) > len(counted) / 2

        watch.record(is_error=is_error, now=float(now))

        assert watch.is_stopped is is_stopped
