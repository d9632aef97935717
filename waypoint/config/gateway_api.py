"""What the route kinds of the Gateway API (gateway.networking.k8s.io) share, checked as the API server would.

https://gateway-api.sigs.k8s.io/reference/spec/. Types say what a field may hold; `__post_init__` says the rest, as a
sentence. Fields that are not carried out are here too, so that nobody mistakes silence for obedience: the compiler
reports them.
"""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from policies.matching import Regex

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_|~`]+").fullmatch
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\uffff]*").fullmatch
_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}").fullmatch
_DURATION_PARTS = re.compile(r"([0-9]+)(ms|h|m|s)").findall
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9\-._~]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch

PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
RuleName = Annotated[
    str, Meta(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
]


def parse_duration(text: str) -> float | None:
    """GEP-2257 → seconds; None for zero, which means no limit. Raises ValueError."""
    if not _DURATION(text):
        raise ValueError(f"{text!r} is no duration such as 10s, 500ms or 1m30s")
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in _DURATION_PARTS(text))
    return seconds or None


def _check_name(name: str) -> None:
    if not 0 < len(name) <= 256 or not _TOKEN(name):
        raise ValueError(f"{name!r} is no header name")


class Metadata(Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = "default"
    creation_timestamp: str | None = None
    generation: int = 0


class ParentRef(Struct, frozen=True, rename="camel"):
    name: str
    group: str = "gateway.networking.k8s.io"
    kind: str = "Gateway"
    namespace: str | None = None
    port: PortNumber | None = None
    section_name: str | None = None


class HeaderMatch(Struct, frozen=True):
    name: str
    value: Annotated[str, Meta(min_length=1, max_length=4096)]
    type: Literal["Exact", "RegularExpression"] = "Exact"

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.type == "RegularExpression":
            Regex.parse(self.value)


class QueryParamMatch(Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    value: Annotated[str, Meta(min_length=1, max_length=1024)]
    type: Literal["Exact", "RegularExpression"] = "Exact"

    def __post_init__(self) -> None:
        if self.type == "RegularExpression":
            Regex.parse(self.value)


class HeaderValue(Struct, frozen=True):
    name: str
    value: Annotated[str, Meta(min_length=1, max_length=4096)]

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.name.lower() == "host" and not _AUTHORITY(self.value):
            raise ValueError(f"{self.value!r} is no host such as reviews.example.com or reviews:8080")
        if not _HEADER_VALUE(self.value) or self.value != self.value.strip():
            raise ValueError(f"{self.value!r} is no header value")


_FRAMING = frozenset({"connection", "transfer-encoding", "content-length", "upgrade", "keep-alive", "te", "trailer"})


class HeaderModifier(Struct, frozen=True):
    """Setting `Host` rewrites the authority. A request has exactly one, so it is neither added nor removed."""

    set: Annotated[tuple[HeaderValue, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[HeaderValue, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        for name in self.remove:
            _check_name(name)
        for names in ([it.name for it in self.set], [it.name for it in self.add], list(self.remove)):
            lowered = [name.lower() for name in names]
            if len(set(lowered)) != len(lowered):
                raise ValueError("a header name stands twice in one list; names don't depend on case")
            if framing := _FRAMING.intersection(lowered):
                raise ValueError(f"{min(framing)} belongs to the connection and can't be changed by a route")
        if "host" in {name.lower() for name in (*self.remove, *(it.name for it in self.add))}:
            raise ValueError("Host can be set, but neither added nor removed: a request has exactly one")


class Filter(Struct, frozen=True, rename="camel"):
    type: str
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None

    def __post_init__(self) -> None:
        for kind, modifier in (
            ("RequestHeaderModifier", self.request_header_modifier),
            ("ResponseHeaderModifier", self.response_header_modifier),
        ):
            if (self.type == kind) != (modifier is not None):
                field = kind[:1].lower() + kind[1:]
                raise ValueError(f"a filter of type {self.type} {'needs' if modifier is None else 'has no'} {field}")


Filters = Annotated[tuple[Filter, ...], Meta(max_length=16)]


def check_filters(filters: tuple[Filter, ...]) -> None:
    for kind in ("RequestHeaderModifier", "ResponseHeaderModifier"):
        if sum(it.type == kind for it in filters) > 1:
            raise ValueError(f"{kind} stands twice in one list of filters; make one of them")


class BackendRef(Struct, frozen=True, rename="camel"):
    name: str
    group: str = ""
    kind: str = "Service"
    namespace: str | None = None
    port: PortNumber | None = None
    weight: Weight = 1
    filters: Filters = ()

    def __post_init__(self) -> None:
        check_filters(self.filters)


class Timeouts(Struct, frozen=True, rename="camel"):
    request: str | None = None
    backend_request: str | None = None

    def __post_init__(self) -> None:
        request = parse_duration(self.request) if self.request is not None else None
        attempt = parse_duration(self.backend_request) if self.backend_request is not None else None
        if request is not None and attempt is not None and attempt > request:
            raise ValueError("backendRequest must not be longer than request")
