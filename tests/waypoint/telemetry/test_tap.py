from dataclasses import replace

import pytest

from policies.authorization import Verdict
from policies.verdict import ResponseFlag
from tests.kit.aio import run
from tests.waypoint.telemetry.test_exchanges import ANSWERED, ENDPOINT
from waypoint.telemetry.record import ExchangeRecord
from waypoint.telemetry.tap import MAX_CONDITIONS, MAX_WAITING, Filter, InvalidFilter, Tap, event

RECORD = replace(
    ANSWERED,
    headers=[
        (b"end-user", b"jason"),
        (b"authorization", b"Bearer abc"),
        (b"x-own", b"abc"),
        (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ],
)


@pytest.mark.parametrize(
    "condition",
    [
        ("method", "get"),
        ("path", "/reviews/0"),
        ("path", "/rev*"),
        ("path", "*?x=1"),
        ("status", "200"),
        ("status", "2xx"),
        ("status", "100-299"),
        ("slower", "3.5"),
        ("source", "productpage-v1"),
        ("source", "default/*"),
        ("source", "spiffe://*/sa/productpage"),
        ("source", "10.244.1.9"),
        ("destination", "reviews"),
        ("destination", "reviews.default"),
        ("destination", "reviews.default.svc.cluster.local"),
        ("destination", "default/reviews-v1"),
        ("destination", "10.244.1.12"),
        ("route", "def*"),
        ("header", "end-user"),
        ("header", "End-User: jas*"),
    ],
)
def test_a_condition_selects_what_it_describes(condition: tuple[str, str]) -> None:
    assert Filter.parse([condition]).wants(RECORD)


@pytest.mark.parametrize(
    "condition",
    [
        ("method", "POST"),
        ("path", "/reviews"),
        ("path", "/[r]eviews/0"),
        ("status", "404"),
        ("status", "5xx"),
        ("status", "0"),
        ("slower", "4"),
        ("source", "ratings"),
        ("destination", "ratings*"),
        ("route", "other"),
        ("header", "cookie"),
        ("header", "end-user: mary"),
    ],
)
def test_a_condition_leaves_out_the_rest(condition: tuple[str, str]) -> None:
    assert not Filter.parse([condition]).wants(RECORD)


def test_conditions_of_one_name_are_alternatives_and_headers_are_not() -> None:
    assert Filter.parse([("status", "503"), ("status", "200"), ("method", "GET")]).wants(RECORD)
    assert not Filter.parse([("status", "200"), ("method", "PUT")]).wants(RECORD)
    assert not Filter.parse([("header", "end-user"), ("header", "cookie")]).wants(RECORD)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([("colour", "red")], "there is no condition 'colour'; there are method, path"),
        ([("status", "many")], "status 'many' is not of the form"),
        *(([("status", it)], f"status '{it}' is never answered") for it in ("9xx", "600", "0-200", "500-400", "42")),
        ([("slower", "soon")], "slower 'soon' is not a number of milliseconds"),
        ([("slower", "nan")], "slower 'nan' is not a number of milliseconds"),
        ([("header", ":x")], "header ':x' is not of the form NAME"),
        ([("path", "/")] * (MAX_CONDITIONS + 1), "at most 32 conditions"),
        ([("path", "x" * 1000)], "at most 32 conditions of 256 characters"),
    ],
)
def test_a_condition_that_cannot_be_understood_is_refused_with_a_sentence(
    asked: list[tuple[str, str]], said: str
) -> None:
    with pytest.raises(InvalidFilter, match=said):
        Filter.parse(asked)


def test_an_event_names_both_ends_and_the_route() -> None:
    found = event(RECORD)

    assert found["type"] == "request"
    assert found["time"] == "2023-11-14T22:13:20.123Z"
    assert found["source"] == {
        "address": "10.244.1.9:41234",
        "workload": "productpage-v1",
        "namespace": "default",
        "identity": "spiffe://cluster.local/ns/default/sa/productpage",
    }
    assert found["destination"] == {
        "service": "reviews.default.svc.cluster.local",
        "port": 9080,
        "called": "10.96.1.2:9080",
        "workload": "reviews-v1",
        "namespace": "default",
        "endpoint": "10.244.1.12:9080",
        "cluster": "inbound-vip|9080|http|reviews.default.svc.cluster.local",
    }
    assert (found["path"], found["status"], found["route"]) == ("/reviews/0?x=1", 200, "default")
    assert found["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_an_event_of_a_denied_request_says_so() -> None:
    denied = replace(
        RECORD, status=403, flags=(ResponseFlag.UNAUTHORIZED_EXTERNAL_SERVICE,), verdict=Verdict(False), endpoint=None
    )

    found = event(denied)

    assert found["authorization"] == {"is_allowed": False, "policy": "", "audited": [], "dry_run": []}
    assert found["flags"] == ["UAEX"]


def test_an_opaque_connection_is_an_event_of_its_own_type() -> None:
    found = event(ExchangeRecord(0, RECORD.peer, RECORD.source, RECORD.downstream_local, RECORD.service))

    assert (found["type"], found["protocol"]) == ("connection", "TCP")


def test_headers_are_shown_when_asked_for_and_credentials_are_not() -> None:
    target = b"/a?token=abc&own=abc&b=1"
    shown = frozenset({b"end-user", b"authorization", b"x-own"})

    found = event(replace(RECORD, original_target=target), shown, hidden=frozenset({b"x-own", b"own"}))

    assert found["headers"] == [["end-user", "jason"], ["authorization", "(redacted)"], ["x-own", "(redacted)"]]
    assert found["path"] == "/a?token=(redacted)&own=(redacted)&b=1"
    assert event(RECORD)["headers"] == []


def test_what_nobody_takes_is_dropped_and_counted() -> None:
    async def scenario() -> None:
        tap = Tap(Filter.parse([("destination", "reviews-v1")]))
        for _ in range(MAX_WAITING + 5):
            tap.take(RECORD, frozenset())
            tap.take(replace(RECORD, service=replace_name(), endpoint=None), frozenset())

        assert (len(tap.events()), tap.dropped) == (MAX_WAITING, 5)

        tap.take(replace(RECORD, endpoint=ENDPOINT), frozenset())
        await tap.wait()

        assert (len(tap.events()), tap.dropped) == (1, 5)

    run(scenario())


def replace_name() -> object:
    return replace(RECORD.service, hostname="other", name="other")  # type: ignore[type-var]
