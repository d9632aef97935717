import pickle
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4.telemetry.metrics import REFUSED, MeshMetrics, counter, gauge, histogram
from l4.telemetry.samples import BUCKETS, CannotMerge, FamilySnapshot, Merging, MetricsSnapshot, merge

ANSWERS = counter("answers", "Answers.", ("label",))
DURATION = histogram("duration", "Duration.", ("label",))
STATE = gauge("state", "State.", ("label",), Merging.MAX)
VALUES = ("value",)


def metrics() -> MeshMetrics:
    return MeshMetrics("proxy", "1.2.3", [ANSWERS, DURATION, STATE])


def rendered(*snapshots: MetricsSnapshot) -> str:
    return "".join(family.render(is_openmetrics=False) for family in merge(snapshots))


def test_counters_are_added_up_by_their_labels() -> None:
    one, other = metrics(), metrics()
    one.of(REFUSED).labels(("both",)).add(2)
    other.of(REFUSED).labels(("both",)).add(3)
    other.of(REFUSED).labels(("only here",)).add()

    text = rendered(one.snapshot(), other.snapshot())

    assert 'pywaypoint_refused_total{reason="both"} 5\n' in text
    assert 'pywaypoint_refused_total{reason="only here"} 1\n' in text
    assert text.count("# TYPE pywaypoint_refused_total counter\n") == 1


def test_of_two_exemplars_the_later_one_remains() -> None:
    one, other = metrics(), metrics()
    for it, trace, at in ((one, "early", 1.0), (other, "late", 2.0)):
        it.of(DURATION).labels(VALUES).observe(3.0)
        it.of(DURATION).labels(VALUES).exemplify(3.0, f'trace_id="{trace}"', at)

    for pair in permutations((one, other)):
        (merged,) = merge((it.of(DURATION).snapshot(),) for it in pair)
        assert '# {trace_id="late"} 3.0 2.000\n' in merged.render(is_openmetrics=True)
        assert "early" not in merged.render(is_openmetrics=True)


@given(st.lists(st.floats(0, 1e8)), st.lists(st.floats(0, 1e8)))
def test_merged_histograms_are_what_one_histogram_of_all_values_is(here: list[float], there: list[float]) -> None:
    one, other, both = metrics(), metrics(), metrics()
    for value in here:
        one.of(DURATION).labels(VALUES).observe(value)
    for value in there:
        other.of(DURATION).labels(VALUES).observe(value)
    for value in (*here, *there):
        both.of(DURATION).labels(VALUES).observe(value)

    (merged,) = merge([(one.of(DURATION).snapshot(),), (other.of(DURATION).snapshot(),)])
    expected = both.of(DURATION).snapshot()

    for values, counts in expected.samples.items():
        assert not isinstance(counts, int)
        found = merged.samples[values]
        assert not isinstance(found, int)
        assert found.counts == counts.counts
        assert found.sum == pytest.approx(counts.sum)
        assert len(found.counts) == len(BUCKETS) + 1
    assert merged.samples.keys() == expected.samples.keys()


def test_a_gauge_that_does_not_add_up_takes_the_worst_value() -> None:
    several = [metrics(), metrics(), metrics()]
    for number, it in enumerate(several):
        it.config_problems.value = number
        it.of(STATE).labels(VALUES).value = number % 2
    several[0].certificate_expires(50)
    several[1].certificate_expires(40)

    texts = {rendered(*(it.snapshot() for it in order)) for order in permutations(several)}

    for text in texts:
        assert "pywaypoint_config_problems 2\n" in text
        assert 'state{label="value"} 1\n' in text
        assert "istio_cert_expiry_seconds 40\n" in text
        assert 'istio_build{component="proxy",tag="1.2.3"} 1\n' in text


def test_the_merger_of_one_is_that_one() -> None:
    one = metrics()
    one.of(ANSWERS).labels(VALUES).add()
    one.of(DURATION).labels(VALUES).observe(7)

    assert merge([one.snapshot()]) == one.snapshot()
    assert merge([one.snapshot(), ()]) == one.snapshot()
    assert merge([]) == ()


def test_a_snapshot_keeps_its_numbers_and_goes_to_another_process() -> None:
    one = metrics()
    count, duration = one.of(ANSWERS).labels(VALUES), one.of(DURATION).labels(VALUES)
    count.add()
    duration.observe(3)

    snapshot = one.snapshot()
    before = rendered(snapshot)
    count.add()
    duration.observe(3)

    assert rendered(snapshot) == before
    assert rendered(pickle.loads(pickle.dumps(snapshot))) == before
    assert rendered(one.snapshot()) != before


def test_metrics_that_differ_in_more_than_numbers_are_not_merged() -> None:
    one = FamilySnapshot("a", "gauge", "A.", ("b",), Merging.MAX, {("c",): 1})
    other = FamilySnapshot("a", "gauge", "A.", ("b", "d"), Merging.MAX, {("c", "e"): 1})

    with pytest.raises(CannotMerge, match="differ in type, labels, merging or buckets of the metric a"):
        merge([(one,), (other,)])
