"""An operator's view of the live configuration."""

import logging

import pytest

from l4.config.difference import Difference
from l4.config.documents import FileOrigin, Problem
from l4.config.doubts import EVERYWHERE, Doubt
from l4.config.intake import Taken
from l4.config.resources import Resources
from l4.configuration import ConfigurationReport
from l4.readiness import Readiness
from l4.telemetry.metrics import MeshMetrics

PROBLEM = Problem(FileOrigin("a.yaml", 3), "Service default/a", "spec", "is wrong")
DOUBT = Doubt(Problem(FileOrigin("b.yaml"), "b.yaml", "", "cannot be read"), False, EVERYWHERE)


def taken(*doubts: Doubt, is_understood: bool = True) -> Taken:
    return Taken((), Difference(), Resources(), None, frozenset(), doubts, frozenset(), is_understood, {})


class World:
    def __init__(self) -> None:
        self.readiness = Readiness({"configuration"})
        self.metrics = MeshMetrics("proxy", "test")
        self.report = ConfigurationReport(logging.getLogger("tests.configuration"), self.readiness, self.metrics)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return told


def test_what_stays_as_it_is_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world, ignored = World(), {"Secret": 2}

    world.report.tell(taken(), [PROBLEM], "nothing to serve", ignored)
    first = lines(caplog)
    world.report.tell(taken(), [PROBLEM], "nothing to serve", ignored)
    second = lines(caplog)
    world.report.tell(taken(), [], "", {"Secret": 3})

    assert first == ["ignored: 2 objects of kind Secret", "nothing to serve", f"{PROBLEM}"]
    assert second == []
    assert lines(caplog) == ["ignored: 3 objects of kind Secret", f"resolved: {PROBLEM}"]


def test_readiness_waits_until_everything_was_understood_and_there_is_something_to_serve() -> None:
    world, seen = World(), []

    for it, lack in ((taken(DOUBT, is_understood=False), ""), (taken(), "nothing to serve"), (taken(), "")):
        world.report.tell(it, [], lack)
        seen.append((world.readiness.is_ready, dict(world.readiness.concerns)))

    assert seen == [
        (False, {"configuration source": str(DOUBT.problem)}),
        (False, {"configuration": "nothing to serve"}),
        (True, {}),
    ]


def test_problems_and_doubts_are_counted() -> None:
    world = World()

    world.report.tell(taken(), [], "")
    before = world.metrics.render("")[0]
    world.report.tell(taken(DOUBT), [PROBLEM, DOUBT.problem], "")

    assert b"\npywaypoint_config_failed_timestamp_seconds" not in before
    assert b"\npywaypoint_config_failed_timestamp_seconds 1" in world.metrics.render("")[0]
    assert (world.metrics.config_problems.value, world.metrics.config_doubts.value) == (2, 1)
