"""HTTPRoute, standard and experimental channel, checked as the API server would.

https://gateway-api.sigs.k8s.io/reference/spec/#httproute
"""

import re
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from policies.matching import Regex
from waypoint.config.gateway_api import (
    BackendRef,
    Filters,
    HeaderMatch,
    Metadata,
    ParentRef,
    QueryParamMatch,
    RuleName,
    Timeouts,
    check_filters,
)

_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+").fullmatch
_BAD_IN_PATH = ("//", "/./", "/../", "%2f", "%2F", "#")
_BAD_PATH_ENDS = ("/..", "/.")

Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


class PathMatch(Struct, frozen=True):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"

    def __post_init__(self) -> None:
        if self.type == "RegularExpression":
            Regex.parse(self.value)
        elif not self.value.startswith("/") or not _PATH(self.value):
            raise ValueError(f"{self.value!r} is no absolute path")
        elif any(bad in self.value for bad in _BAD_IN_PATH) or self.value.endswith(_BAD_PATH_ENDS):
            raise ValueError(f"{self.value!r} is not in normal form: no //, /./, /../, %2F or #")


class HTTPRouteMatch(Struct, frozen=True, rename="camel"):
    path: PathMatch = PathMatch()
    headers: Annotated[tuple[HeaderMatch, ...], Meta(max_length=16)] = ()
    query_params: Annotated[tuple[QueryParamMatch, ...], Meta(max_length=16)] = ()
    method: Method | None = None


class HTTPRouteRule(Struct, frozen=True, rename="camel"):
    """`retry` and `session_persistence` are not carried out; they are here so that the compiler can tell of them."""

    name: RuleName | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], Meta(max_length=64)] = (HTTPRouteMatch(),)
    filters: Filters = ()
    backend_refs: Annotated[tuple[BackendRef, ...], Meta(max_length=16)] = ()
    timeouts: Timeouts = Timeouts()
    retry: Any | UnsetType = UNSET
    session_persistence: Any | UnsetType = UNSET

    def __post_init__(self) -> None:
        check_filters(self.filters)


class HTTPRouteSpec(Struct, frozen=True, rename="camel"):
    parent_refs: Annotated[tuple[ParentRef, ...], Meta(max_length=32)] = ()
    hostnames: tuple[str, ...] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], Meta(min_length=1, max_length=16)] = (HTTPRouteRule(),)

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules if rule.name is not None]
        if len(set(names)) != len(names):
            raise ValueError("two rules have the same name")
        if sum(len(rule.matches) for rule in self.rules) > 128:
            raise ValueError("the rules have more than 128 matches together")


class HTTPRoute(Struct, frozen=True, rename="camel"):
    metadata: Metadata
    spec: HTTPRouteSpec = field(default_factory=HTTPRouteSpec)
