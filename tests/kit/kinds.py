"""Decode an object's `spec` from YAML, or return its problem."""

from typing import TypeVar

import msgspec

from l4.config import manifest
from l4.config.documents import Problem
from l4.config.kinds import Kinds
from l4.config.resources import Decoder
from waypoint.config.codes import ConfigCode

T = TypeVar("T", bound=msgspec.Struct)


def load(kind: type[T], spec: str) -> T:
    """Return the object of a spec that has no problem."""
    found, problems = _decode(kind, spec)
    assert problems == ()
    assert found is not None
    return found


def told(kind: type[T], spec: str) -> tuple[str, str]:
    """Return the field and the sentence of the only problem, for which the object or one of its rules is refused."""
    found, (problem,) = _decode(kind, spec)
    assert (found is None) is (problem.code is not ConfigCode.RULE_INVALID)
    sentence, _, _ = problem.sentence.partition("; the rule is refused, and traffic that matches its readable part ")
    return problem.field, sentence


def _decode(kind: type[T], spec: str) -> tuple[T | None, tuple[Problem, ...]]:
    text = f"apiVersion: example.com/v1\nkind: It\nmetadata: {{name: reviews}}\nspec: {spec}"
    documents, problems = manifest.parse("it.yaml", text.encode())
    assert not problems
    decoded = Decoder(Kinds({("example.com", "It"): kind})).decode(documents)
    return next((it.value for it in decoded.resources.of(kind)), None), decoded.problems
