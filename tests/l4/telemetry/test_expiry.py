import asyncio
from dataclasses import dataclass, field

import pytest

from l4.telemetry.expiry import HIDDEN_SECONDS, PAIR_LABELS, Expiry, expire
from l4.telemetry.metrics import CONNECTIONS_CLOSED, CONNECTIONS_OPENED, REFUSED, TCP_LABELS, MeshMetrics, Metric
from l4.telemetry.metrics import Value as Counter
from l4.telemetry.samples import Sample
from tests.kit.virtual_time import run_virtually

SECONDS = 900.0


def labels(workload: str, flags: str = "-") -> tuple[str, ...]:
    its = {"reporter": "source", "destination_workload": workload, "response_flags": flags}
    return tuple(its.get(name, "unknown") for name in TCP_LABELS)


@dataclass
class Looked:
    """Metrics that are looked at each minute."""

    metrics: MeshMetrics = field(default_factory=lambda: MeshMetrics("proxy", "test"))
    now: float = 0.0

    def __post_init__(self) -> None:
        self.expiry = Expiry(self.metrics)

    def child(self, workload: str, flags: str = "-", metric: Metric[Counter] = CONNECTIONS_OPENED) -> Counter:
        return self.metrics.of(metric).labels(labels(workload, flags))

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / 60)):
            self.now += 60
            assert self.expiry.look(self.now, SECONDS)

    def shown(self, metric: Metric[Counter] = CONNECTIONS_OPENED) -> dict[str, Sample]:
        (found,) = [it for it in self.metrics.snapshot() if it.name == metric.name]
        return {values[TCP_LABELS.index("destination_workload")]: sample for values, sample in found.samples.items()}


def test_what_nothing_counts_in_is_shown_no_more_and_gives_its_series_back() -> None:
    looked = Looked()
    looked.metrics.of(CONNECTIONS_OPENED).budget.left = 1
    looked.child("gone").add()
    looked.wait(SECONDS)
    assert looked.shown() == {"gone": 1}

    looked.wait(120)

    assert looked.shown() == {}
    looked.wait(HIDDEN_SECONDS)
    looked.child("new").add()
    assert looked.shown() == {"new": 1}, "it does not count in the overflow"


def test_what_is_counted_in_stays_and_so_does_all_else_of_the_same_workloads() -> None:
    looked = Looked()
    looked.child("quiet").add()
    looked.child("busy", "CONNECT", CONNECTIONS_CLOSED).add()

    for _ in range(20):
        looked.child("busy").add()
        looked.wait(120)

    assert looked.shown() == {"busy": 20}
    assert looked.shown(CONNECTIONS_CLOSED) == {"busy": 1}


def test_what_somebody_holds_stays_until_it_is_let_go() -> None:
    looked = Looked()
    held = looked.child("idle")
    held.add()
    looked.wait(5 * SECONDS)
    held.add()
    assert looked.shown() == {"idle": 2}

    del held
    looked.wait(SECONDS - 60)
    assert looked.shown() == {"idle": 2}
    looked.wait(180)
    assert looked.shown() == {}


def test_what_comes_back_soon_goes_on_with_all_of_its_series_and_later_starts_anew() -> None:
    looked = Looked()
    for metric in (CONNECTIONS_OPENED, CONNECTIONS_CLOSED):
        looked.child("back", metric=metric).add(7)
    looked.wait(SECONDS + 60)
    assert looked.shown() == looked.shown(CONNECTIONS_CLOSED) == {}

    looked.child("back").add()
    assert looked.shown() == {"back": 8}
    looked.wait(60)
    assert looked.shown(CONNECTIONS_CLOSED) == {"back": 7}

    looked.wait(SECONDS + 60 + HIDDEN_SECONDS)
    looked.child("back").add()
    assert looked.shown() == {"back": 1}
    assert looked.shown(CONNECTIONS_CLOSED) == {}


def test_metrics_that_are_not_of_workloads_stay() -> None:
    looked = Looked()
    looked.metrics.count_refusal("max_connections")

    looked.wait(10 * SECONDS)

    (found,) = [it for it in looked.metrics.snapshot() if it.name == REFUSED.name]
    assert found.samples == {("max_connections",): 1}


def test_nothing_is_looked_at_while_a_thread_reads() -> None:
    looked = Looked()

    with looked.metrics.reading:
        assert not looked.expiry.look(0, SECONDS)
    assert looked.expiry.look(0, SECONDS)


@pytest.mark.parametrize("seconds", [8, SECONDS])
def test_the_loop_lets_go_of_what_is_kept_to_be_found_sooner(seconds: float) -> None:
    async def scenario() -> None:
        looked, bound = Looked(), {}
        bound["app"] = looked.child("app")
        bound["app"].add()
        with looked.metrics.reading:
            loop = asyncio.create_task(expire(looked.metrics, seconds, bound.clear))
            await asyncio.sleep(2 * seconds)
        assert looked.shown() == {"app": 1}
        await asyncio.sleep(2 * seconds)
        loop.cancel()

        assert looked.shown() == {}
        assert bound == {}

    run_virtually(scenario())


def test_the_first_labels_of_what_expires_are_those_of_the_pair() -> None:
    expiring = MeshMetrics("proxy", "test").expiring

    assert expiring
    for family in expiring:
        assert family.metric.label_names[: len(PAIR_LABELS)] == PAIR_LABELS
