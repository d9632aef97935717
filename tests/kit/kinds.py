"""An object's `spec`, as people write it in YAML → the object, or what is told of it."""

from typing import TypeVar

import msgspec

from l4.config import manifest
from l4.config.documents import Problem
from l4.config.kinds import Kinds
from l4.config.resources import Decoder
from waypoint.config.codes import ConfigCode

T = TypeVar("T", bound=msgspec.Struct)


def load(kind: type[T], spec: str) -> T:
    """The object of a spec that nothing is to be told of."""
    found, problems = _decode(kind, spec)
    assert problems == ()
    assert found is not None
    return found


def told(kind: type[T], spec: str) -> tuple[str, str]:
    """Field and sentence of the one problem for which the object is refused, or one of its rules."""
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
