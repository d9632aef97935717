"""Spans in the bytes of OTLP.

https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto has the fields,
https://protobuf.dev/programming-guides/encoding/ their encoding. The same bytes as the OpenTelemetry SDK makes, whose
objects for a span cost more than the request that it is of.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache

SERVER, CLIENT = 2, 3
"""Kinds of spans."""

_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200
_64_BITS = 2**64 - 1
_SHORT = 128
"""Letters of a value that is remembered: most are those of earlier spans, but a path may be as long as a head."""
_ONE_BYTE = tuple(bytes((number,)) for number in range(0x80))


def encode_span(
    trace_id: int,
    span_id: int,
    parent_id: int | None,
    name: str,
    kind: int,
    began_ns: int,
    ended_ns: int,
    attributes: Mapping[str, str | int],
    is_error: bool,
) -> bytes:
    """Return a field `spans` of ScopeSpans. The parent of a SERVER span is remote. Times are since 1970."""
    flags = _HAS_IS_REMOTE | (_IS_REMOTE if kind == SERVER and parent_id is not None else 0)
    pairs = [
        _known_pair(key, value) if isinstance(value, int) or len(value) <= _SHORT else _pair(key, value)
        for key, value in attributes.items()
    ]
    parts = (
        b"\x0a\x10" + trace_id.to_bytes(16),
        b"\x12\x08" + span_id.to_bytes(8),
        b"" if parent_id is None else b"\x22\x08" + parent_id.to_bytes(8),
        _field(b"\x2a", _text(name)),
        b"\x30" + _ONE_BYTE[kind],
        b"\x39" + began_ns.to_bytes(8, "little"),
        b"\x41" + ended_ns.to_bytes(8, "little"),
        *pairs,
        b"\x7a\x02\x18\x02" if is_error else b"\x7a\x00",
        b"\x85\x01" + flags.to_bytes(4, "little"),
    )
    return _field(b"\x12", b"".join(parts))


def encode_request(resource: bytes, scope: bytes, spans: Sequence[bytes]) -> bytes:
    """Return an ExportTraceServiceRequest. `resource` are the fields of ResourceSpans but `scope_spans`, `scope` those
    of ScopeSpans but `spans`."""
    return _field(b"\x0a", resource + _field(b"\x12", scope + b"".join(spans)))


def encode_resource(attributes: Mapping[str, object], schema_url: str) -> bytes:
    """Return the `resource` of `encode_request`. Values are text, numbers, or sequences of these."""
    pairs = b"".join(_field(b"\x0a", _key_value(key, value)) for key, value in attributes.items())
    return _field(b"\x0a", pairs) + (_field(b"\x1a", _text(schema_url)) if schema_url else b"")


def encode_scope(name: str) -> bytes:
    """Return the `scope` of `encode_request`."""
    return _field(b"\x0a", _field(b"\x0a", _text(name)))


def _pair(key: str, value: str | int) -> bytes:
    """Return a field `attributes` of a span."""
    return _field(b"\x4a", _key_value(key, value))


def _key_value(key: str, value: object) -> bytes:
    return _field(b"\x0a", _text(key)) + _field(b"\x12", _value(value))


def _value(value: object) -> bytes:
    """Return an AnyValue."""
    match value:
        case str():
            return _field(b"\x0a", _text(value))
        case bool():
            return b"\x10" + _ONE_BYTE[value]
        case int():
            return b"\x18" + _varint(value & _64_BITS)
        case float():
            return b"\x21" + struct.pack("<d", value)
        case Sequence():
            return _field(b"\x2a", b"".join(_field(b"\x0a", _value(it)) for it in value))
    raise TypeError(f"an attribute cannot be {value!r}")


_known_pair = lru_cache(maxsize=2048)(_pair)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _field(tag: bytes, value: bytes) -> bytes:
    size = len(value)
    return tag + (_ONE_BYTE[size] if size < 0x80 else _varint(size)) + value


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
