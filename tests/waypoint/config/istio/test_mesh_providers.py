import json

import pytest

from l4.config import manifest
from l4.config.kinds import Kinds
from l4.config.resources import Decoder
from waypoint.config.istio.mesh_config import ConfigMap
from waypoint.config.istio.mesh_providers import MeshProviders


def providers(mesh: str) -> MeshProviders:
    lines = "".join(f"    {line}\n" for line in mesh.splitlines())
    metadata = "{name: istio, namespace: istio-system}"
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\ndata:\n  mesh: |\n{lines}"
    documents, problems = manifest.parse("mesh.yaml", text.encode())
    assert not problems
    return MeshProviders(Decoder(Kinds({("", "ConfigMap"): ConfigMap})).decode(documents).resources.of(ConfigMap))


def test_envoy_is_there_without_being_configured() -> None:
    found = providers("enableTracing: true")

    assert found.logs == {"envoy": None}
    assert found.logs_by_default == ("envoy",)


def test_the_meshs_format_is_envoys() -> None:
    assert getattr(providers('accessLogFormat: "%DURATION%"').logs["envoy"], "written", None) == "%DURATION%"
    fields = getattr(providers("accessLogEncoding: JSON").logs["envoy"], "written", "")
    assert '"response_code": "%RESPONSE_CODE%"' in fields
    own = providers(f"accessLogEncoding: JSON\naccessLogFormat: '{json.dumps({'a': '%DURATION%'})}'").logs["envoy"]
    assert getattr(own, "written", "").startswith('{"a": "%DURATION%"}')


def test_providers_of_logs_and_traces_are_known_by_name() -> None:
    found = providers(
        "defaultProviders: {accessLogging: [own]}\nextensionProviders:\n- {name: own, envoyFileAccessLog: {}}\n"
        "- {name: zipkin, zipkin: {service: z, port: 9411}}\n- {name: als, envoyHttpAls: {service: a, port: 1}}\n- 5"
    )

    assert found.logs == {"envoy": None, "own": None}
    assert found.logs_by_default == ("own",)
    assert found.traces == {"zipkin": None}


def test_a_collector_that_is_not_understood_is_told_with_its_place() -> None:
    found = providers("extensionProviders: [{name: own, opentelemetry: {service: a}}]")

    [problem] = found.problems
    assert problem.field == "data.mesh.extensionProviders[0].opentelemetry"
    assert "port" in problem.sentence
    assert found.traces == {"own": None}


@pytest.mark.parametrize(
    ("provider", "place", "words"),
    [
        ("{path: /var/log/a}", "envoyFileAccessLog.path", "--access-log"),
        ("{logFormat: {text: '%A%'}}", "envoyFileAccessLog.logFormat", "%A% at character 1"),
        ("{logFormat: {labels: {a: '%A%'}}}", "envoyFileAccessLog.logFormat", "a: %A%"),
    ],
)
def test_what_is_not_understood_is_told_with_its_place(provider: str, place: str, words: str) -> None:
    found = providers(f"extensionProviders: [{{name: own, envoyFileAccessLog: {provider}}}]")

    [problem] = found.problems
    assert problem.field == f"data.mesh.extensionProviders[0].{place}"
    assert words in problem.sentence
    assert found.logs["own"] is None


def test_default_providers_that_a_waypoint_cannot_use_are_told() -> None:
    found = providers(
        "defaultProviders: {accessLogging: [envoy, als, nobody], tracing: [zipkin], metrics: [prometheus, dog]}\n"
        "extensionProviders:\n- {name: zipkin, zipkin: {service: z, port: 9411}}\n"
        "- {name: als, envoyHttpAls: {service: a, port: 1}}"
    )

    assert [(it.field, it.sentence.partition(":")[0]) for it in found.problems] == [
        ("data.mesh.defaultProviders.accessLogging[1]", "'als' is of kind envoyHttpAls"),
        ("data.mesh.defaultProviders.accessLogging[2]", "the mesh has no provider 'nobody'"),
        ("data.mesh.defaultProviders.tracing[0]", "'zipkin' is of kind zipkin"),
        ("data.mesh.defaultProviders.metrics[1]", "'dog' gets no metrics"),
    ]


def test_what_is_no_list_of_default_providers_is_left_out() -> None:
    for written in ("5", "{accessLogging: 5, tracing: {}}", "{}"):
        found = providers(f"defaultProviders: {written}")

        assert (found.logs_by_default, found.trace_by_default, found.problems) == (("envoy",), None, [])
