"""Telemetry objects, and what they make of the services of a small mesh."""

import pytest

from policies.telemetry import Collector, LogRule, SpanTag, TelemetryPolicy
from tests.kit.lints import MESH
from tests.kit.snapshots import compiled, documents_of
from waypoint.config.dump import dump
from waypoint.config.snapshot import Snapshot
from waypoint.telemetry.record import ExchangeRecord

REVIEWS = "reviews.default.svc.cluster.local"
TO_REVIEWS = "targetRefs: [{group: '', kind: Service, name: reviews}]"
TO_WAYPOINT = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]"
MESH_CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: short
      envoyFileAccessLog: {path: /dev/stdout, logFormat: {text: "%RESPONSE_CODE%"}}
    - name: fields
      envoyFileAccessLog: {path: /dev/stdout, logFormat: {labels: {code: "%RESPONSE_CODE%"}}}
    - name: jaeger
      opentelemetry: {service: default/jaeger.default.svc.cluster.local, port: 4317}
    - name: tempo
      opentelemetry: {service: tempo, port: 4318, http: {timeout: 2s, headers: [{name: token, value: secret}]}}
    - {name: als, envoyHttpAls: {service: als.default.svc.cluster.local, port: 9000}}
    - {name: otel-logs, envoyOtelAls: {service: otel.default.svc.cluster.local, port: 4317}}
    - {name: old-zipkin, zipkin: {service: zipkin.default.svc.cluster.local, port: 9411}}
    - {name: dog, datadog: {service: dog.default.svc.cluster.local, port: 8126}}
"""


def telemetry(spec: str, name: str = "a", namespace: str = "default", created: str = "2026-01-01") -> str:
    metadata = f"{{name: {name}, namespace: {namespace}, creationTimestamp: {created}T00:00:00Z}}"
    return f"apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {metadata}\nspec: {{{spec}}}\n"


def snapshot(*objects: str) -> Snapshot:
    return compiled(documents_of(mesh=MESH, config=MESH_CONFIG, case="\n---\n".join(objects)))


def policy(*objects: str) -> TelemetryPolicy[ExchangeRecord] | None:
    found = snapshot(*objects)
    assert not found.problems, found.problems
    return found.destinations[REVIEWS, 80].telemetry


def logs(*objects: str) -> tuple[str, ...] | None:
    """The formats of the log."""
    found = policy(*objects)
    if found is None or found.log is None:
        return None
    return tuple(getattr(it.format, "written", "own") for it in found.log)


def log(provider: str) -> str:
    return f"accessLogging: [{{providers: [{{name: {provider}}}]}}]"


def test_without_an_object_nothing_is_overridden() -> None:
    assert policy() is None


def test_the_more_specific_object_wins() -> None:
    root = telemetry(log("envoy"), namespace="istio-system")
    own = telemetry(log("short"))
    waypoint = telemetry(f"{TO_WAYPOINT}, {log('fields')}", "b")
    service = telemetry(f"{TO_REVIEWS}, accessLogging: [{{disabled: true}}]", "c")

    assert logs(root) == ("own",)
    assert logs(root, own) == ("%RESPONSE_CODE%",)
    assert logs(root, own, waypoint) == ('{"code": "%RESPONSE_CODE%"}False',)
    assert logs(root, own, waypoint, service) == ()


def test_objects_of_other_namespaces_and_services_do_not_count() -> None:
    other = telemetry(log("short"), namespace="other")
    elsewhere = telemetry(
        f"targetRefs: [{{group: '', kind: Service, name: reviews}}], {log('short')}", namespace="other"
    )

    assert policy(other) is None
    assert snapshot(elsewhere).destinations[REVIEWS, 80].telemetry is None


def test_a_condition_without_providers_takes_those_of_the_wider_object() -> None:
    found = policy(
        telemetry(log("short"), namespace="istio-system"),
        telemetry("accessLogging: [{filter: {expression: 'response.code >= 500'}}]"),
    )

    assert found is not None
    assert found.log is not None
    [rule] = found.log
    assert rule.condition is not None
    assert rule.condition.text == "response.code >= 500"
    assert getattr(rule.format, "written", None) == "%RESPONSE_CODE%"


def test_spans_go_to_the_provider_of_the_most_specific_object() -> None:
    root = telemetry("tracing: [{providers: [{name: jaeger}]}]", namespace="istio-system")
    own = telemetry("tracing: [{providers: [{name: tempo}], randomSamplingPercentage: 5}]")
    sampled = telemetry("tracing: [{randomSamplingPercentage: 5}]")
    jaeger = Collector("http://jaeger.default.svc.cluster.local:4317")
    tempo = Collector("http://tempo:4318/v1/traces", False, (("token", "secret"),), 2.0)

    for objects, collector in (((root,), jaeger), ((root, own), tempo), ((root, sampled), jaeger), ((), None)):
        found = snapshot(*objects)
        its = found.destinations[REVIEWS, 80].telemetry
        assert not found.problems
        assert (its.tracing.collector if its is not None and its.tracing is not None else None) == collector
        assert found.collectors == ({collector} if collector is not None else set())
    assert "secret" not in repr(tempo)


def test_what_is_for_clients_is_not_for_a_waypoint() -> None:
    spec = (
        "accessLogging: [{match: {mode: CLIENT}, disabled: true}], tracing: [{match: {mode: CLIENT}}], "
        "metrics: [{overrides: [{match: {mode: CLIENT}, disabled: true}]}]"
    )

    assert policy(telemetry(spec)) is None


def test_overrides_of_metrics_add_up_tag_by_tag() -> None:
    root = telemetry(
        "metrics: [{overrides: [{tagOverrides: "
        "{request_host: {value: request.host}, source_app: {operation: REMOVE}}}]}]",
        namespace="istio-system",
    )
    own = telemetry(
        "metrics: [{providers: [{name: prometheus}], overrides: ["
        "{match: {metric: REQUEST_COUNT, mode: SERVER}, tagOverrides: {request_host: {value: request.method}}}, "
        "{match: {metric: TCP_SENT_BYTES}, disabled: true}]}]"
    )

    found = policy(root, own)

    assert found is not None
    assert len(found.metrics) == 10
    count, size = found.metrics["istio_requests"], found.metrics["istio_request_bytes"]
    assert {tag: it and it.text for tag, it in count.tags.items()} == {
        "request_host": "request.method",
        "source_app": None,
    }
    assert {tag: it and it.text for tag, it in size.tags.items()} == {
        "request_host": "request.host",
        "source_app": None,
    }
    assert [name for name, it in found.metrics.items() if it.is_disabled] == ["istio_tcp_sent_bytes"]


def by_default(providers: str, *objects: str) -> TelemetryPolicy[ExchangeRecord] | None:
    """What a service has in a mesh with these default providers."""
    config = MESH_CONFIG.replace("  mesh: |\n", f"  mesh: |\n    defaultProviders: {{{providers}}}\n")
    found = compiled(documents_of(mesh=MESH, config=config, case="\n---\n".join(objects)))
    return found.destinations[REVIEWS, 80].telemetry


@pytest.mark.parametrize(
    ("spec", "service"),
    [
        ("", "jaeger"),
        ("tracing: [{match: {mode: CLIENT}, providers: [{name: tempo}]}]", "jaeger"),
        ("tracing: [{randomSamplingPercentage: 50}]", "jaeger"),
        ("tracing: [{providers: [{name: tempo}]}]", "tempo"),
    ],
)
def test_spans_go_to_the_meshs_default_provider_unless_an_object_names_one(spec: str, service: str) -> None:
    found = by_default("tracing: [jaeger]", *([telemetry(spec)] if spec else []))

    assert found is not None
    assert found.tracing is not None
    assert found.tracing.collector is not None
    assert found.tracing.collector.endpoint.startswith(f"http://{service}")


def test_lines_have_the_format_of_the_meshs_default_providers_unless_an_object_names_others() -> None:
    assert by_default("accessLogging: [envoy]") is None
    for objects, expected in (
        ((), ["%RESPONSE_CODE%", "own"]),
        ((telemetry("metrics: [{overrides: [{disabled: true}]}]"),), ["%RESPONSE_CODE%", "own"]),
        ((telemetry(log("fields")),), ['{"code": "%RESPONSE_CODE%"}False']),
        ((telemetry("accessLogging: [{disabled: true}]"),), []),
    ):
        found = by_default("accessLogging: [short, envoy]", *objects)
        assert found is not None
        assert found.log is not None
        assert [getattr(it.format, "written", "own") for it in found.log] == expected


def test_default_providers_that_a_waypoint_cannot_use_change_nothing() -> None:
    assert by_default("accessLogging: [als, otel-logs], tracing: [old-zipkin], metrics: [stackdriver]") is None


def test_traces_are_merged_field_by_field() -> None:
    root = telemetry(
        "tracing: [{providers: [{name: jaeger}], randomSamplingPercentage: 50, enableIstioTags: false, "
        "customTags: {a: {literal: {value: x}}, b: {header: {name: X-B, defaultValue: none}}}}]",
        namespace="istio-system",
    )
    own = telemetry(
        "tracing: [{disableSpanReporting: true, customTags: "
        "{a: {literal: {value: y}}, c: {formatter: {value: '%DURATION%'}}, "
        "d: {environment: {name: POD_NAME, defaultValue: none}}}}]"
    )

    found = policy(root, own)

    assert found is not None
    assert found.tracing is not None
    rule = found.tracing
    assert (rule.share, rule.is_reported, rule.is_propagated, rule.has_istio_tags) == (0.5, False, True, False)
    assert rule.tags[:2] == (SpanTag("a", default="y"), SpanTag("b", header=b"x-b", default="none"))
    assert rule.tags[2].name == "c"
    assert rule.tags[2].format is not None
    assert rule.tags[3] == SpanTag("d", variable="POD_NAME", default="none")


@pytest.mark.parametrize(
    ("spec", "place", "words"),
    [
        (
            "metrics: [{overrides: [{match: {metric: REQUESTS}}]}]",
            "spec.metrics[0].overrides[0].match.metric",
            "REQUEST_COUNT",
        ),
        (
            "metrics: [{overrides: [{match: {customMetric: my_metric}}]}]",
            "spec.metrics[0].overrides[0].match.customMetric",
            "no metric 'my_metric'",
        ),
        ("metrics: [{providers: [{name: stackdriver}]}]", "spec.metrics[0].providers[0]", "prometheus"),
        (
            "metrics: [{overrides: [{tagOverrides: {host: {value: request.hots}}}]}]",
            "spec.metrics[0].overrides[0].tagOverrides[host].value",
            "at character 1: there is no attribute 'request.hots'",
        ),
        ("accessLogging: [{providers: [{name: loki}]}]", "spec.accessLogging[0].providers[0]", "no provider 'loki'"),
        (
            "accessLogging: [{filter: {expression: 'response.code >'}}]",
            "spec.accessLogging[0].filter.expression",
            "ends too early",
        ),
        ("tracing: [{providers: [{name: loki}]}]", "spec.tracing[0].providers[0]", "no provider 'loki'"),
        (
            "accessLogging: [{providers: [{name: als}]}]",
            "spec.accessLogging[0].providers[0]",
            "'als' is of kind envoyHttpAls: a waypoint sends its access log nowhere, it writes to the file of "
            "--access-log. Name envoy, or a provider of kind envoyFileAccessLog",
        ),
        (
            "accessLogging: [{providers: [{name: otel-logs}]}]",
            "spec.accessLogging[0].providers[0]",
            "'otel-logs' is of kind envoyOtelAls: ",
        ),
        (
            "accessLogging: [{providers: [{name: jaeger}]}]",
            "spec.accessLogging[0].providers[0]",
            "kind opentelemetry: ",
        ),
        (
            "tracing: [{providers: [{name: old-zipkin}]}]",
            "spec.tracing[0].providers[0]",
            "'old-zipkin' is of kind zipkin: a waypoint sends spans as OTLP alone, so they go to the collector of "
            "OTEL_EXPORTER_OTLP_ENDPOINT if it is set, else nowhere. Name a provider of kind opentelemetry",
        ),
        ("tracing: [{providers: [{name: dog}]}]", "spec.tracing[0].providers[0]", "'dog' is of kind datadog: "),
        (
            "tracing: [{providers: [{name: als}]}]",
            "spec.tracing[0].providers[0]",
            "'als' is of kind envoyHttpAls, which takes no spans",
        ),
        ("metrics: [{providers: [{name: als}]}]", "spec.metrics[0].providers[0]", "'als' gets no metrics"),
        ("metrics: [{reportingInterval: 10s}]", "spec.metrics[0].reportingInterval", "every 5 seconds"),
        (
            "tracing: [{useRequestIdForTraceSampling: true}]",
            "spec.tracing[0].useRequestIdForTraceSampling",
            "is not done",
        ),
        (
            "tracing: [{providers: [{name: jaeger}, {name: tempo}]}]",
            "spec.tracing[0].providers[1]",
            "the first one",
        ),
        (
            "tracing: [{customTags: {pod: {environment: {name: TOKEN}}}}]",
            "spec.tracing[0].customTags[pod].environment",
            "TOKEN is not read, because variables hold secrets: spans get the default. The waypoint's setting "
            "SPAN_TAG_VARIABLES allows it",
        ),
        (
            "tracing: [{customTags: {x: {formatter: {value: '%X%'}}}}]",
            "spec.tracing[0].customTags[x].formatter",
            "%X% at character 1",
        ),
        ("selector: {matchLabels: {app: reviews}}", "spec.selector", "name a waypoint or a Service in targetRefs"),
        ("targetRefs: [{group: '', kind: Service, name: nobody}]", "spec.targetRefs[0]", "there is no Service"),
    ],
)
def test_what_is_not_understood_is_told_with_its_place(spec: str, place: str, words: str) -> None:
    [problem] = snapshot(telemetry(spec)).problems

    assert (problem.subject, problem.field) == ("Telemetry default/a", place)
    assert words in problem.sentence


def test_a_filter_that_is_not_understood_filters_nothing() -> None:
    found = snapshot(telemetry("accessLogging: [{filter: {expression: '('}}]")).destinations[REVIEWS, 80].telemetry

    assert found == TelemetryPolicy(log=(LogRule(),))


def test_of_two_objects_of_one_place_the_older_one_counts() -> None:
    older, newer = telemetry(log("short"), "z", created="2025-01-01"), telemetry(log("fields"), "a")

    found = snapshot(older, newer)

    assert [(it.subject, it.field) for it in found.problems] == [("Telemetry default/a", "spec")]
    telemetries = found.destinations[REVIEWS, 80].telemetry
    assert telemetries is not None
    assert telemetries.log is not None
    assert [getattr(it.format, "written", None) for it in telemetries.log] == ["%RESPONSE_CODE%"]


def test_another_object_makes_another_version() -> None:
    versions = {snapshot(*it).version for it in ((), (telemetry(log("short")),), (telemetry(log("fields")),))}

    assert len(versions) == 3
    assert snapshot(telemetry(log("short"))).version in versions


def test_what_applies_is_dumped() -> None:
    spec = (
        "metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: "
        "{host: {value: request.host}, source_app: {operation: REMOVE}}}]}], "
        "accessLogging: [{providers: [{name: short}], filter: {expression: 'response.code >= 500'}}], "
        "tracing: [{randomSamplingPercentage: 50}]"
    )

    found = dump(snapshot(telemetry(spec)))["destinations"]

    assert isinstance(found, dict)
    assert found[f"{REVIEWS}:80"]["telemetry"] == {
        "metrics": {"istio_requests": {"tags": {"host": "request.host", "source_app": None}}},
        "log": [{"format": {"written": "%RESPONSE_CODE%"}, "condition": "response.code >= 500"}],
        "tracing": {"share": 0.5},
    }
