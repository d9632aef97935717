from dataclasses import replace

import pytest

from tests.waypoint.telemetry.test_exchanges import ANSWERED
from waypoint.telemetry.rates import MAX_GROUPS, Rates, merge
from waypoint.telemetry.record import ExchangeRecord
from waypoint.telemetry.tap import Filter, InvalidFilter


def rates_of(*records: ExchangeRecord, by: str = "destination,route") -> Rates:
    rates = Rates(by)
    for it in records:
        rates.take(it, frozenset())
    return rates


def test_requests_are_counted_by_destination_and_route() -> None:
    failed = replace(ANSWERED, status=503, route_name="canary")

    rows = rates_of(ANSWERED, ANSWERED, failed, replace(failed, status=0), ANSWERED).rows(2.0)

    assert [(it["destination"], it["route"], it["requests"], it["errors"], it["per_second"]) for it in rows] == [
        ("reviews.default.svc.cluster.local:9080", "default", 3, 0, 1.5),
        ("reviews.default.svc.cluster.local:9080", "canary", 2, 2, 1.0),
    ]
    assert rows[1]["statuses"] == {"5xx": 1, "none": 1}


def test_percentiles_are_exact_to_five_percent() -> None:
    (row,) = rates_of(*(replace(ANSWERED, duration_ms=float(it)) for it in range(1, 1001))).rows(1.0)

    assert row["p50_ms"] == pytest.approx(500, rel=0.05)
    assert row["p90_ms"] == pytest.approx(900, rel=0.05)
    assert row["p99_ms"] == pytest.approx(990, rel=0.05)


def test_counting_begins_anew_after_each_interval() -> None:
    rates = rates_of(ANSWERED)

    assert len(rates.rows(1.0)) == 1
    assert rates.rows(1.0) == []


def test_groups_are_bounded_and_the_rest_is_added_up() -> None:
    many = (replace(ANSWERED, route_name=str(it)) for it in range(MAX_GROUPS + 10))

    rows = rates_of(*many).rows(1.0)

    assert len(rows) == MAX_GROUPS + 1
    assert (rows[0]["route"], rows[0]["requests"]) == ("other", 10)


def test_other_groupings_are_chosen_by_name() -> None:
    (row,) = rates_of(ANSWERED, by="source,workload,method").rows(1.0)

    assert (row["source"], row["workload"], row["method"]) == ("default/productpage-v1", "default/reviews-v1", "GET")
    with pytest.raises(InvalidFilter, match="cannot be grouped by 'colour', but by source, destination"):
        Rates("colour")


def test_a_filter_selects_what_is_counted_and_connections_never_are() -> None:
    rates = Rates(wanted=Filter.parse([("status", "5xx")]))
    connection = ExchangeRecord(0, ANSWERED.peer, ANSWERED.source, ANSWERED.downstream_local, ANSWERED.service)
    for it in (ANSWERED, connection, replace(ANSWERED, status=500)):
        rates.take(it, frozenset())

    (row,) = rates.rows(1.0)

    assert row["requests"] == 1


def test_percentiles_of_several_waypoints_are_those_of_all_requests() -> None:
    fast = [replace(ANSWERED, duration_ms=float(it)) for it in range(1, 901)]
    slow = [replace(ANSWERED, duration_ms=1000.0 + it) for it in range(100)]
    (one,) = rates_of(*fast).rows(2.0)
    (other,) = rates_of(*slow, replace(ANSWERED, status=503, duration_ms=5000.0)).rows(1.0)

    (row,) = merge([one, other], ["destination"])

    (whole,) = rates_of(*fast, *slow, replace(ANSWERED, status=503, duration_ms=5000.0)).rows(1.0)
    summed = {"route": "default", "per_second": 551.0}
    assert {"route": "default", **row} == {**whole, **summed}
    assert row["p50_ms"] == pytest.approx(500, rel=0.05)
    assert row["p99_ms"] == pytest.approx(1090, rel=0.05)


def test_merged_rows_are_grouped_by_fewer_columns() -> None:
    rows = rates_of(ANSWERED, replace(ANSWERED, route_name="canary")).rows(1.0)

    assert [it["route"] for it in merge(rows * 2, ["route"])] == ["canary", "default"]
    assert [it["requests"] for it in merge(rows * 2, ["destination"])] == [4]
