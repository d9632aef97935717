import pytest

from l4.config import manifest
from l4.config.kinds import Kinds
from l4.config.resources import Decoder
from l4.discovery.registry import Registry
from waypoint.config.clusters import ClusterConfigs
from waypoint.config.istio.destination_rule import DestinationRules
from waypoint.config.istio.mesh_config import Authorizers, ConfigMap
from waypoint.config.reach import Reach

SERVICE = "service: auth.default.svc.cluster.local, port: 80"


def authorizers(mesh: str, name: str = "istio", namespace: str = "istio-system") -> Authorizers:
    """Those of a ConfigMap."""
    lines = "".join(f"    {line}\n" for line in mesh.replace("SERVICE", SERVICE).splitlines())
    metadata = f"{{name: {name}, namespace: {namespace}}}"
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\ndata:\n  mesh: |\n{lines}"
    documents, problems = manifest.parse("mesh.yaml", text.encode())
    assert not problems
    decoded = Decoder(Kinds({("", "ConfigMap"): ConfigMap})).decode(documents)
    clusters = ClusterConfigs(("default", "waypoint"), DestinationRules((), Registry(), Reach("default"), {}))
    return Authorizers(decoded.resources.of(ConfigMap), Registry(), clusters)


@pytest.mark.parametrize(
    "provider",
    [
        "{name: a, envoyExtAuthzHttp: {port: 80}}",
        "{name: a, envoyExtAuthzHttp: {service: s, port: 0}}",
        "{name: a, envoyExtAuthzHttp: {SERVICE, pathPrefix: check}}",
        "{name: a, envoyExtAuthzHttp: {SERVICE, statusOnError: '200'}}",
        "{name: a, envoyExtAuthzHttp: {SERVICE, includeAdditionalHeadersInCheck: {a b: c}}}",
        '{name: a, envoyExtAuthzHttp: {SERVICE, includeAdditionalHeadersInCheck: {a: "b\\nc"}}}',
        '{name: a, envoyExtAuthzHttp: {SERVICE, includeAdditionalHeadersInCheck: {a: "b "}}}',
        "{name: a, envoyExtAuthzHttp: {SERVICE, includeAdditionalHeadersInCheck: {content-length: '1'}}}",
        "{name: a, envoyExtAuthzHttp: {SERVICE, includeAdditionalHeadersInCheck: {Host: b}}}",
        "{name: a, envoyExtAuthzGrpc: {SERVICE, timeout: soon}}",
        "{name: a, envoyExtAuthzGrpc: {SERVICE, includeRequestBodyInCheck: {maxRequestBytes: 1073741824}}}",
        "{name: a, envoyExtAuthzGrpc: {SERVICE, failOpen: maybe}}",
        "a",
    ],
)
def test_a_provider_that_cannot_be_understood_is_unknown_and_told(provider: str) -> None:
    found = authorizers(f"extensionProviders: [{provider}]")

    assert not found.by_name
    assert [problem.field for problem in found.problems] == ["data.mesh.extensionProviders[0]"]


def test_one_bad_provider_costs_no_other() -> None:
    found = authorizers("extensionProviders: [{name: a, envoyExtAuthzGrpc: {SERVICE}}, 1]")

    assert list(found.by_name) == ["a"]


def test_of_two_with_one_name_the_first_counts() -> None:
    found = authorizers(
        "extensionProviders:\n- {name: a, envoyExtAuthzGrpc: {SERVICE}}\n- {name: a, envoyExtAuthzHttp: {SERVICE}}"
    )

    assert found.by_name["a"].is_grpc
    assert any("the same name 'a'" in problem.sentence for problem in found.problems)


@pytest.mark.parametrize("mesh", ["", "a: 1", "[]", "extensionProviders: 1", "extensionProviders: []"])
def test_a_mesh_without_providers_is_fine(mesh: str) -> None:
    assert not authorizers(mesh).problems


@pytest.mark.parametrize("mesh", ["a: [", "[" * 100_000, "[" * 60_000, "x" * 70_000, "a: !!python/object:os.system {}"])
def test_what_is_no_yaml_is_told(mesh: str) -> None:
    found = authorizers(mesh)

    assert [problem.field for problem in found.problems] == ["data.mesh"]


@pytest.mark.parametrize(("name", "namespace"), [("istio", "default"), ("istio-rev", "istio-system")])
def test_other_config_maps_are_none_of_ours(name: str, namespace: str) -> None:
    found = authorizers("extensionProviders: [1]", name, namespace)

    assert not found.problems
