"""The fields of a kind's documents, and their permitted values, derived from its Struct.

msgspec ignores unknown fields, and its messages show a pattern rather than its meaning. Authors of YAML need to know
about the former, and to understand the latter.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect

Shape: TypeAlias = "dict[str, Shape] | None"
"""Names of fields → their shapes. A list has the shape of its items. None where any content is permitted."""


@cache
def shape_of(kind: type[msgspec.Struct]) -> Shape:
    return _shape(inspect.type_info(kind))


def unknown_fields(content: Any, shape: Shape, path: str = "") -> Iterator[str]:
    """Yield the paths of fields that the shape does not have."""
    if shape is None:
        return
    if isinstance(content, list):
        for index, item in enumerate(content):
            yield from unknown_fields(item, shape, f"{path}[{index}]")
    elif isinstance(content, Mapping):
        for name, value in content.items():
            below = f"{path}.{name}" if path else str(name)
            if name in shape:
                yield from unknown_fields(value, shape[name], below)
            else:
                yield below


def meaning(kind: type[msgspec.Struct], steps: Iterable[str | int]) -> str | None:
    """Return what a value at this place must be, as the end of a sentence; None if its type is clear enough."""
    found = _type_of(kind)
    for step in steps:
        found = _plain(found)
        if isinstance(step, int):
            below = found.item_type if isinstance(found, inspect.VarTupleType) else None
        else:
            fields = found.fields if isinstance(found, inspect.StructType) else ()
            below = next((field.type for field in fields if field.encode_name == step), None)
        if below is None:
            return None
        found = below
    return _told(found)


@cache
def _type_of(kind: type[msgspec.Struct]) -> inspect.Type:
    """Kept for kinds in which values were refused: it takes milliseconds, and there may be many such objects."""
    return inspect.type_info(kind)


def _told(found: inspect.Type) -> str | None:
    match found:
        case inspect.Metadata(extra_json_schema={"description": str(text)}):
            return text
        case inspect.Metadata(type=inner):
            return _told(inner)
        case inspect.UnionType(types=types):
            return next((text for text in map(_told, types) if text is not None), None)
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
    return None


def _plain(found: inspect.Type) -> inspect.Type:
    """Return the type without annotations and without the None of an optional field."""
    if isinstance(found, inspect.Metadata):
        return _plain(found.type)
    if isinstance(found, inspect.UnionType):
        return _plain(next(it for it in found.types if not isinstance(it, inspect.NoneType)))
    return found


def _shape(found: inspect.Type) -> Shape:
    found = _plain(found)
    if isinstance(found, inspect.VarTupleType | inspect.ListType):
        return _shape(found.item_type)
    if isinstance(found, inspect.StructType):
        return {field.encode_name: _shape(field.type) for field in found.fields}
    return None
