"""The CRDs of our own kinds say what our structs say: the same fields, enums and bounds.

What neither a schema nor CEL can say, our decoder alone refuses: `ONLY_WE_REFUSE`. What an API server makes of the
CRDs: tests/cluster/test_crds.py.
"""

from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest

from l4.config.documents import ObjectKey
from tests.kit.policy_samples import KINDS, ONLY_WE_REFUSE, SAMPLES, Sample, is_decoded, schema_of
from waypoint.config.ours.attached import GROUP
from waypoint.config.ours.policy_api import TargetRef
from waypoint.config.status import AncestorStatus, Condition, PolicyStatus

BOUNDS = ("maxItems", "minItems", "maxLength", "minLength", "maximum", "minimum", "pattern", "format")


def below(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all within it, by their paths."""
    yield path, schema
    if "items" in schema:
        yield from below(schema["items"], f"{path}[]")
    for name, field in schema.get("properties", {}).items():
        yield from below(field, f"{path}.{name}")


def plain(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema of msgspec without references, without null and with Go's patterns."""
    schema = dict(schema)
    if "anyOf" in schema:
        (other,) = (it for it in schema.pop("anyOf") if it != {"type": "null"})
        schema |= other
    if "$ref" in schema:
        schema |= definitions[schema.pop("$ref").rpartition("/")[2]]
    if "pattern" in schema:
        schema["pattern"] = schema["pattern"].replace(r"\Z", "$")
    if "items" in schema:
        schema["items"] = plain(schema["items"], definitions)
    if "properties" in schema:
        schema["properties"] = {name: plain(it, definitions) for name, it in schema["properties"].items()}
    return schema


def without_distinct(schema: dict[str, Any]) -> None:
    """Faults have no Distinct, so that every value is required: the rule of `FaultRuleSpec`."""
    properties = schema.get("properties", {})
    if "Distinct" in (kinds := properties.get("type", {}).get("enum", ())):
        kinds.remove("Distinct")
        schema["required"] = sorted({*schema["required"], *({"value"} & set(properties))})


def said(schemas: Iterator[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {
        path: {name: schema[name] for name in BOUNDS if name in schema}
        | {"required": sorted(schema.get("required", ())), "enum": sorted(schema.get("enum", ()))}
        | {"type": schema.get("type", "string"), "default": schema.get("default") or None}
        for path, schema in schemas
    }


@pytest.mark.parametrize("kind", KINDS)
def test_fields_enums_bounds_and_defaults_are_those_of_the_decoder(kind: str) -> None:
    definitions = msgspec.json.schema(KINDS[kind])["$defs"]
    ours = plain(definitions[kind]["properties"]["spec"], definitions)
    if kind == "FaultPolicy":
        for _, schema in below(ours, "spec"):
            without_distinct(schema)

    theirs = said(below(schema_of(kind)["properties"]["spec"], "spec"))

    assert theirs == said(below(ours, "spec"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described(kind: str) -> None:
    properties = schema_of(kind)["properties"]
    schemas = [it for name in ("spec", "status") for it in below(properties[name], name)]

    assert [path for path, it in schemas if not path.endswith("[]") and not it.get("description")] == []


def messages(kind: str) -> list[str]:
    schemas = [schema for _, schema in below(schema_of(kind), "")]
    return [rule["message"] for schema in schemas for rule in schema.get("x-kubernetes-validations", ())]


@pytest.mark.parametrize("kind", KINDS)
def test_for_every_rule_there_is_a_sample_that_it_refuses(kind: str) -> None:
    refusals = {it.refusal for it in SAMPLES if it.kind == kind}

    assert [it for it in messages(kind) if it not in refusals] == []


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_the_decoder_takes_and_refuses_what_the_api_server_does(sample: Sample) -> None:
    assert is_decoded(sample.document) == (not sample.refusal)


@pytest.mark.parametrize("sample", ONLY_WE_REFUSE, ids=str)
def test_the_decoder_refuses_what_the_api_server_cannot_judge(sample: Sample) -> None:
    assert not is_decoded(sample.document)


@pytest.mark.parametrize("sample", [*SAMPLES, *ONLY_WE_REFUSE], ids=str)
def test_the_schema_refuses_what_no_rule_refuses(sample: Sample) -> None:
    is_for_rules = not sample.refusal or sample.refusal in messages(sample.kind)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER

    validator = jsonschema.Draft202012Validator(schema_of(sample.kind), format_checker=checker)

    assert validator.is_valid(sample.document) is is_for_rules


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("section", [None, "http"])
def test_the_status_that_we_compute_fits(kind: str, section: str | None) -> None:
    ref = TargetRef("", "Service", "app", section)
    told = tuple(msgspec.to_builtins(ref).items())
    found = Condition("Accepted", True, "Accepted", "the policy is in force")
    status = PolicyStatus(ObjectKey(GROUP, kind, "default", "app"), 1, (AncestorStatus(told, found),))

    schema = schema_of(kind)["properties"]["status"]

    jsonschema.validate(status.dump(lambda *_: "2026-01-01T00:00:00Z"), schema)
