from policies.cel import Expression
from policies.telemetry import MetricRule, TelemetryPolicy

ATTRIBUTES = {"a": lambda it: it.get("a"), "b": lambda it: it.get("b")}
A: Expression[dict[str, str]] = Expression.compile("a", ATTRIBUTES)
B: Expression[dict[str, str]] = Expression.compile("b", ATTRIBUTES)
POLICY = TelemetryPolicy(
    {
        "requests": MetricRule(tags={"app": A, "version": None, "more": B}),
        "sizes": MetricRule(is_disabled=True, tags={"app": B}),
        "durations": MetricRule(tags={"app": B}),
    }
)
NAMES = ("app", "version", "code")
LABELS = ("x", "v1", "200")


def test_tags_are_replaced_removed_and_added() -> None:
    values = POLICY.values({"a": "one", "b": "two"})

    assert POLICY.labels("requests", NAMES, LABELS, values) == ("one", "", "200", "more", "two")
    assert POLICY.labels("durations", NAMES, LABELS, values) == ("two", "v1", "200")
    assert POLICY.labels("others", NAMES, LABELS, values) == LABELS


def test_a_disabled_metric_has_no_labels() -> None:
    assert POLICY.labels("sizes", NAMES, LABELS, POLICY.values({})) is None


def test_metrics_are_disabled_when_each_one_is() -> None:
    assert POLICY.disables({"sizes"})
    assert not POLICY.disables({"sizes", "durations"})
    assert not POLICY.disables({"others"})
    assert not TelemetryPolicy().disables({"sizes"})


def test_what_has_no_value_is_unknown_and_what_is_long_is_cut() -> None:
    values = POLICY.values({"b": "b" * 1000})

    assert POLICY.labels("requests", NAMES, LABELS, values) == ("unknown", "", "200", "more", "b" * 256)
