from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from l4.config import manifest
from l4.config.codes import DocumentCode
from l4.config.documents import FileOrigin
from l4.config.kinds import Group, Kinds
from l4.config.resources import Decoded, Decoder, Strict, locate


class Spec(msgspec.Struct, frozen=True):
    port: int
    hosts: tuple[str, ...] = ()
    labels: Mapping[str, int] = {}

    def __post_init__(self) -> None:
        if self.port == 0:
            raise ValueError("Port 0 can't be reached")


class Thing(msgspec.Struct, frozen=True):
    spec: Spec


class StrictThing(Strict, frozen=True):
    spec: Spec


KINDS = Kinds({("example.com", "Thing"): Thing})
STRICT = Kinds({("example.com", "Thing"): StrictThing})


def decode(decoder: Decoder, *texts: str) -> Decoded:
    documents, problems = manifest.parse("f.yaml", "\n---\n".join(texts).encode())
    assert not problems
    return decoder.decode(documents)


def thing(name: str, spec: str) -> str:
    return f"apiVersion: example.com/v1\nkind: Thing\nmetadata:\n  name: {name}\nspec: {spec}"


def ports(decoded: Decoded) -> list[tuple[str, int]]:
    return [(resource.key.name, resource.value.spec.port) for resource in decoded.resources.of(Thing)]


def test_resources_of_a_kind_come_sorted_by_key() -> None:
    decoded = decode(Decoder(KINDS), thing("b", "{port: 2}"), thing("a", "{port: 1}"))

    assert ports(decoded) == [("a", 1), ("b", 2)]
    assert decoded.resources.of(Spec) == ()


def test_an_object_that_does_not_decode_keeps_its_last_valid_version() -> None:
    decoder = Decoder(KINDS)
    decode(decoder, thing("a", "{port: 1}"), thing("b", "{port: 2}"))

    broken = decode(decoder, thing("a", "{port: one}"), thing("b", "{port: 3}"))
    again = decode(decoder, thing("a", "{port: one}"), thing("b", "{port: 3}"))

    assert ports(broken) == ports(again) == [("a", 1), ("b", 3)]
    assert [problem.sentence for problem in again.problems] == [
        "expected `int`, got `str`; the object's last valid version stays live"
    ]


def test_an_object_that_was_never_valid_is_not_live() -> None:
    decoded = decode(Decoder(KINDS), thing("a", "{port: one}"))

    assert ports(decoded) == []
    assert [str(problem) for problem in decoded.problems] == [
        "f.yaml:1: Thing default/a spec.port: expected `int`, got `str` [PWP0001]"
    ]


def test_an_object_that_is_gone_is_forgotten() -> None:
    decoder = Decoder(KINDS)
    decode(decoder, thing("a", "{port: 1}"))
    decode(decoder)

    decoded = decode(decoder, thing("a", "{port: one}"))

    assert ports(decoded) == []


@pytest.mark.parametrize(
    ("spec", "field", "sentence"),
    [
        ("{port: 1, hosts: [a, 7]}", "spec.hosts[1]", "expected `str`, got `int`"),
        ("{port: 1, labels: {a: b}}", "spec.labels", "expected `int`, got `str`"),
        ("{port: 0}", "spec", "Port 0 can't be reached"),
        ("{}", "spec", "object missing required field `port`"),
    ],
)
def test_a_problem_names_the_field_as_people_write_it(spec: str, field: str, sentence: str) -> None:
    problem = decode(Decoder(KINDS), thing("a", spec)).problems[0]

    assert (problem.field, problem.sentence) == (field, sentence)


def test_a_problem_names_the_line_of_the_field(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(f"# a comment\n{thing('a', '{port: 1}')}\n---\n{thing('b', '')}\n  hosts:\n  - 7\n  port: 2\n")
    documents, _ = manifest.parse(str(path), path.read_bytes())

    problem = Decoder(KINDS).decode(documents).problems[0]

    assert problem.origin == FileOrigin(str(path), 14)


def test_a_key_with_dots_is_found_when_it_stands_in_brackets(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("metadata:\n  labels:\n    app: a\n    istio.io/use-waypoint: w\n")

    assert locate(FileOrigin(str(path), 1), "metadata.labels[istio.io/use-waypoint]").line == 4


@pytest.mark.parametrize("text", ["spec: [", ""])
def test_a_file_that_changed_since_leaves_the_origin_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)

    assert locate(FileOrigin(str(path), 5), "spec.port").line == 5
    assert locate(FileOrigin(str(tmp_path / "gone.yaml"), 5), "spec.port").line == 5


def test_kinds_nobody_asked_for_are_counted() -> None:
    config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}"
    deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}"

    decoded = decode(Decoder(KINDS), config_map % "a", config_map % "b", deployment)

    assert decoded.ignored == {"ConfigMap": 2, "Deployment.apps": 1}


def test_an_object_that_only_moved_is_the_same_value_at_a_new_place() -> None:
    decoder = Decoder(KINDS)
    before = decode(decoder, thing("a", "{port: 1}")).resources.of(Thing)[0]

    after = decode(decoder, thing("first", "{port: 1}"), thing("a", "{port: 1}")).resources.of(Thing)[0]

    assert after.value is before.value
    assert after.origin.line == 7


def unknown(decoded: Decoded) -> list[str]:
    assert {problem.code for problem in decoded.problems} <= {DocumentCode.UNKNOWN_FIELD}
    return [problem.field for problem in decoded.problems]


def test_of_a_strict_kind_fields_are_told_that_nobody_reads_and_the_object_loads() -> None:
    decoder = Decoder(STRICT)

    first = decode(decoder, thing("a", "{port: 1, prot: 2}"))
    again = decode(decoder, thing("a", "{port: 1, prot: 2}"))

    assert unknown(first) == unknown(again) == ["spec.prot"]
    assert first.resources.of(StrictThing)[0].value.spec.port == 1


def test_of_an_object_with_many_unknown_fields_the_first_are_told() -> None:
    fields = ", ".join(f"f{number}: 1" for number in range(100))

    assert unknown(decode(Decoder(STRICT), thing("a", f"{{port: 1, {fields}}}"))) == [
        f"spec.f{number}" for number in range(16)
    ]


def test_of_other_kinds_and_outside_of_the_spec_unknown_fields_mean_nothing() -> None:
    assert unknown(decode(Decoder(KINDS), thing("a", "{port: 1, prot: 2}"))) == []
    assert unknown(decode(Decoder(STRICT), thing("a", "{port: 1}") + "\nstatus: {new: 1}")) == []


# -- doubts --------------------------------------------------------------------------------------------------------


class Policy(msgspec.Struct, frozen=True):
    metadata: Mapping[str, object]
    spec: object = None


SECURED = Kinds({("security.istio.io", "AuthorizationPolicy"): Policy})


def policy(kind: str = "AuthorizationPolicy", metadata: str = "{name: a, namespace: books}", more: str = "") -> str:
    return f"apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {metadata}\nspec: {{action: DENY}}\n{more}"


def doubts(decoded: Decoded) -> list[tuple[bool, str | None]]:
    return [(doubt.has_last_good, doubt.namespace) for doubt in decoded.doubts]


def test_a_misspelled_policy_is_a_doubt_about_its_namespace_and_a_problem_in_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(policy("Authorizationpolicy"))
    documents, _ = manifest.parse(str(path), path.read_bytes())

    decoded = Decoder(SECURED).decode(documents)

    assert doubts(decoded) == [(False, "books")]
    assert decoded.ignored == {}
    assert [str(it) for it in decoded.problems] == [
        f"{path}:2: Authorizationpolicy books/a kind: there is no kind 'Authorizationpolicy'; "
        "did you mean AuthorizationPolicy? [PWP0005]"
    ]


def test_a_policy_whose_kind_is_misspelled_by_an_edit_stays_live() -> None:
    decoder = Decoder(SECURED)
    decode(decoder, policy())

    for _ in range(2):
        misspelled = decode(decoder, policy("Authorizationpolicy"))

        assert [it.key.name for it in misspelled.resources.of(Policy)] == ["a"]
        assert doubts(misspelled) == [(True, "books")]
        assert "the last valid version stays live" in misspelled.problems[0].sentence


def test_a_policy_of_a_version_that_is_not_there_is_carried_out_and_told() -> None:
    decoded = decode(Decoder(SECURED), policy().replace("/v1", "/v7"))

    assert [it.key.name for it in decoded.resources.of(Policy)] == ["a"]
    assert doubts(decoded) == [(False, None)]
    assert "there is no security.istio.io/v7" in decoded.problems[0].sentence


@pytest.mark.parametrize("text", [policy(metadata="{name: a, namespace: books}", more="rules: [{}]\n")])
def test_a_policy_with_a_key_beside_its_spec_is_not_taken_for_one_without(text: str) -> None:
    decoder = Decoder(SECURED)

    at_first = decode(decoder, text)
    decode(decoder, policy())
    after = decode(decoder, text)

    assert at_first.resources.of(Policy) == ()
    assert [doubt.is_policy for doubt in at_first.doubts] == [True]
    assert doubts(at_first) == [(False, "books")]
    assert "rules: stands beside spec, where it has no effect; move it below spec" in str(at_first.problems[0])
    assert [it.key.name for it in after.resources.of(Policy)] == ["a"]
    assert doubts(after) == [(True, "books")]


def test_a_key_beside_the_spec_of_any_other_kind_is_told() -> None:
    assert unknown(decode(Decoder(STRICT), thing("a", "{port: 1}") + "\nrules: []")) == ["rules"]


def test_a_key_beside_the_spec_is_told_of_kinds_that_are_read_in_part_too() -> None:
    config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nbinaryData: {}\nimmutable: true"
    core = Group(("v1",), fields={"ConfigMap": frozenset({"binaryData", "immutable"})})
    kinds = Kinds({("", "ConfigMap"): Policy, ("example.com", "Thing"): Thing}, {"": core})

    assert unknown(decode(Decoder(kinds), thing("a", "{port: 1}") + "\nselector: {app: a}")) == ["selector"]
    assert unknown(decode(Decoder(kinds), config_map)) == []
