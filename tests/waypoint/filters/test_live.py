"""The filters of a process: each policy has its own, and each filter hears of its own policies."""

from collections.abc import Iterable

import pytest

from l4.discovery.registry import Registry
from policies.cors import Cors
from policies.fault import Fault
from policies.fault_plan import FaultPlan
from policies.rate_limit import RateLimits
from waypoint.config.snapshot import Snapshot
from waypoint.filters.fault import Faults
from waypoint.filters.live import ASKING, FILTERS, METRICS, SETTINGS, LiveFilters
from waypoint.filters.rate_limit import RateLimiting

LIMITS, PLAN = RateLimits("limits", ()), FaultPlan("plan", ())


def test_a_policy_has_the_filter_of_its_type() -> None:
    filters = LiveFilters()

    assert filters.of(LIMITS) is filters.get(RateLimiting)
    assert filters.of(PLAN) is filters.of(Fault()) is filters.get(Faults)
    assert filters.of(PLAN) is not ASKING.of(PLAN)


def test_a_type_that_no_filter_carries_out_is_an_error() -> None:
    with pytest.raises(KeyError):
        LiveFilters().of("nothing")


def test_each_filter_hears_of_its_own_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[str, list[object]] = {}
    for it in FILTERS:

        def reconcile(self: object, policies: Iterable[object]) -> None:
            heard[type(self).__name__] = list(policies)

        monkeypatch.setattr(it, "reconcile", reconcile)

    LiveFilters().reconcile(Snapshot("", Registry(), policies=(LIMITS, PLAN, Cors(()))))

    assert heard == {it.__name__: [] for it in FILTERS} | {
        "RateLimiting": [LIMITS],
        "Faults": [PLAN],
        "CrossOrigin": [Cors(())],
    }


def test_metrics_and_settings_are_those_that_filters_name() -> None:
    assert set(METRICS) == {metric for it in FILTERS for metric in it.metrics}
    assert set(SETTINGS) == {section for it in FILTERS for section in it.settings}
