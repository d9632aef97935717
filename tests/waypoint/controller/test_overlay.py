import pytest

from waypoint.controller.overlay import KEYS, MAX_BYTES, read, unusable


def test_a_part_gets_the_name_of_the_object() -> None:
    found = read({"deployment": "metadata: {labels: {a: b}}\nspec: {minReadySeconds: 1}"}, "ConfigMap n/o", "n", "w")

    assert found.problems == ()
    assert found.by_kind["Deployment"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"labels": {"a": "b"}, "namespace": "n", "name": "w"},
        "spec": {"minReadySeconds": 1},
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("]", "it is no YAML"),
        ("- a", "it must be a mapping with parts of a Service, such as spec"),
        ("metadata: a", "it must be a mapping with parts of a Service, such as spec"),
        ("kind: Pod", "kind is 'Pod'; it is always 'Service', leave it out"),
        ("metadata: {name: x}", "metadata.name is 'x'; it is always 'w', leave it out"),
        ("metadata: {namespace: x}", "metadata.namespace is 'x'; it is always 'n', leave it out"),
        ("spec: {ports: [{port: null}]}", "spec.ports[0].port is null; an overlay adds and replaces fields"),
        ("a: " + "x" * MAX_BYTES, f"it has more than {MAX_BYTES} bytes"),
        ("[" * 100_000, "it is no YAML"),
    ],
)
def test_a_part_that_is_not_understood_is_told_and_what_was_applied_stays(text: str, sentence: str) -> None:
    found = read({"service": text, "podDisruptionBudget": "spec: {}"}, "ConfigMap n/o", "n", "w")

    (problem,) = found.problems
    assert problem.startswith(f"ConfigMap n/o, key service: {sentence}")
    assert found.kept == {"Service"}
    assert set(found.by_kind) == {"PodDisruptionBudget"}


def test_an_unknown_key_is_told() -> None:
    (problem,) = read({"pod": "{}"}, "ConfigMap n/o", "n", "w").problems

    assert problem == f"ConfigMap n/o has the unknown key pod; keys are {', '.join(KEYS)}"


def test_without_a_config_map_everything_stays() -> None:
    assert unusable("x").kept == set(KEYS.values())
