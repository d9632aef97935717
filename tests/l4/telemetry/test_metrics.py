import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from l4.telemetry.metrics import (
    BUCKETS,
    DESTINATION_LABELS,
    LOOP_LAG,
    REFUSED,
    SOURCE_LABELS,
    TCP_LABELS,
    Bounds,
    Histogram,
    MeshMetrics,
    counter,
    histogram,
)

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
ANSWERS = counter("answers", "Answers.", TCP_LABELS)
DURATION = histogram("duration_milliseconds", "Duration.", ("of",))
TCP_VALUES = tuple(f"value of {name}" for name in TCP_LABELS)


def _samples(metrics: MeshMetrics) -> dict[tuple[str, str], float]:
    text, _ = metrics.render("")
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in parse_text(text.decode())
        for sample in family.samples
    }


def test_labels_have_istios_names_and_order() -> None:
    assert TCP_LABELS[:20] == ("reporter", *SOURCE_LABELS, *DESTINATION_LABELS)
    assert ",".join(TCP_LABELS[20:]) == "request_protocol,response_flags,connection_security_policy"


def test_a_counter_is_exposed_with_all_its_labels() -> None:
    metrics = MeshMetrics("proxy", "1.2.3", [ANSWERS])

    metrics.of(ANSWERS).labels(TCP_VALUES).add(3)

    line = next(line for line in metrics.render("")[0].decode().splitlines() if line.startswith("answers_total{"))
    assert dict(re.findall(r'(\w+)="([^"]*)"', line)) == dict(zip(TCP_LABELS, TCP_VALUES, strict=True))
    assert line.endswith(" 3")


def test_a_histogram_counts_a_value_equal_to_a_bound_below_it() -> None:
    metrics = MeshMetrics("proxy", "1.2.3", [DURATION])
    durations = metrics.of(DURATION).labels(("request",))

    for milliseconds in (0.5, 0.6, 1, 5_000_000):
        durations.observe(milliseconds)

    samples = _samples(metrics)
    name = "duration_milliseconds"
    assert samples[f"{name}_bucket", "0.5"] == 1
    assert samples[f"{name}_bucket", "1.0"] == 3
    assert samples[f"{name}_bucket", "3600000.0"] == 3
    assert samples[f"{name}_bucket", "+Inf"] == samples[f"{name}_count", ""] == 4
    assert samples[f"{name}_sum", ""] == pytest.approx(5_000_002.1)
    assert sum(1 for sample, bound in samples if sample == f"{name}_bucket" and bound) == len(BUCKETS) + 1


def test_only_openmetrics_shows_the_trace_of_a_value() -> None:
    metrics = MeshMetrics("proxy", "1.2.3", [DURATION])
    durations = metrics.of(DURATION).labels(("request",))

    for milliseconds in (3.0, 4.0, 7.0):
        durations.observe(milliseconds)
    durations.exemplify(3.0, 'trace_id="a"', 1.0)
    durations.exemplify(4.0, 'trace_id="b"', 2.5)

    families = parse_openmetrics(metrics.render(OPENMETRICS)[0].decode())  # type: ignore[no-untyped-call]
    exemplars = {
        sample.labels["le"]: sample.exemplar
        for family in families
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert {bound: (it.labels, it.value, float(it.timestamp)) for bound, it in exemplars.items()} == {
        "5.0": ({"trace_id": "b"}, 4.0, 2.5)
    }
    assert b"trace_id" not in metrics.render("")[0]


def test_a_histogram_without_labels_can_be_read() -> None:
    metrics = MeshMetrics("proxy", "1.2.3")

    metrics.of(LOOP_LAG).labels(()).observe(3.0)

    name = "pywaypoint_event_loop_lag_milliseconds"
    samples = _samples(metrics)
    assert samples[f"{name}_bucket", "1.0"] == 0
    assert samples[f"{name}_bucket", "5.0"] == samples[f"{name}_count", ""] == 1


def test_of_the_configurations_only_the_live_one_is_shown() -> None:
    metrics = MeshMetrics("proxy", "1.2.3")

    metrics.config_changed(10.0, "one")
    metrics.config_changed(20.0, "other")

    text = metrics.render("")[0].decode()
    assert re.findall(r"pywaypoint_config_version\{(.*)\} 1\n", text) == ['version="other"']
    assert "pywaypoint_config_changed_timestamp_seconds 20\n" in text


def test_the_scraper_chooses_between_text_and_openmetrics() -> None:
    metrics = MeshMetrics("proxy", "1.2.3", [ANSWERS, DURATION])
    metrics.of(ANSWERS).labels(TCP_VALUES).add()
    metrics.of(DURATION).labels(("request",)).observe(100)
    metrics.sent_bytes.labels(TCP_VALUES).add(7)

    text, text_type = metrics.render("text/plain")
    openmetrics, openmetrics_type = metrics.render(OPENMETRICS)

    assert text_type.startswith("text/plain; version=0.0.4")
    assert openmetrics_type.startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.endswith(b"# EOF\n")
    names = {family.name for family in parse_openmetrics(openmetrics.decode())}  # type: ignore[no-untyped-call]
    assert {"answers", "duration_milliseconds", "istio_tcp_sent_bytes", "istio_build"} <= names
    assert b"_created" not in text + openmetrics


def test_the_build_and_the_process_are_described() -> None:
    text = MeshMetrics("proxy", "1.2.3").render("")[0].decode()

    assert 'istio_build{component="proxy",tag="1.2.3"} 1\n' in text
    assert "process_open_fds" in text
    assert "pywaypoint_config_problems 0\n" in text


def test_the_same_labels_give_the_same_child() -> None:
    metrics = MeshMetrics("proxy", "1.2.3")

    assert metrics.of(REFUSED).labels(("no identity",)) is metrics.of(REFUSED).labels(("no identity",))


def test_label_sets_beyond_the_limit_are_counted_together() -> None:
    metrics = MeshMetrics("proxy", "1.2.3", max_series=7)

    for reason in map(str, range(100)):
        metrics.of(REFUSED).labels((reason,)).add()

    text = metrics.render("")[0].decode()
    refused = [line for line in text.splitlines() if line.startswith("pywaypoint_refused_total{")]
    assert 'pywaypoint_refused_total{reason="overflow"} 97' in refused
    assert len(refused) == 4
    assert "pywaypoint_metrics_overflow_total 97\n" in text


def test_a_value_with_quotes_and_newlines_cannot_forge_a_sample() -> None:
    metrics = MeshMetrics("proxy", "1.2.3")

    metrics.of(REFUSED).labels(('x"} 1\nforged 1\n',)).add()

    assert "\nforged" not in metrics.render("")[0].decode()


def test_a_metric_that_the_program_does_not_list_is_refused_by_its_name() -> None:
    with pytest.raises(LookupError, match="answers is not among this program's metrics"):
        MeshMetrics("proxy", "1.2.3").of(ANSWERS)


@pytest.mark.parametrize("buckets", [BUCKETS, (2.5, 10, 4096, 5000.5)])
def test_a_whole_size_is_in_the_bucket_of_the_same_fraction(buckets: tuple[float, ...]) -> None:
    sizes = {max(int(it) + more, 0) for it in (*buckets, 4096) for more in (-1, 0, 1, 2)}
    for size in sizes:
        whole, fraction = Histogram(Bounds(buckets)), Histogram(Bounds(buckets))

        whole.observe_size(size)
        fraction.observe(size)

        assert whole.sample() == fraction.sample()
