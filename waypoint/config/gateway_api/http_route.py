"""The schema of HTTPRoute, standard and experimental channel, validated like the API server does.

https://gateway-api.sigs.k8s.io/reference/spec/#httproute
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from l4.config.durations import Duration
from l4.config.resources import Ruled, RuleList
from l4.discovery.objects import Metadata
from policies.matching import Regex
from waypoint.config.api_fields import Hostname, SectionName, is_path, repeated
from waypoint.config.gateway_api.routes import (
    BackendRef,
    Filter,
    Filters,
    HeaderMatch,
    Method,
    ParentRef,
    PathModifier,
    QueryParamMatch,
    SessionPersistence,
    Timeouts,
    check_filters,
    check_matches,
    check_parents,
    check_rule_names,
    stand_in,
)
from waypoint.config.refused_rules import http_rules

_BAD_IN_PATH = ("//", "/./", "/../", "%2f", "%2F")
_BAD_PATH_ENDS = ("/..", "/.")

StatusCode = Annotated[int, Meta(ge=400, le=599)]


class PathMatch(Struct, frozen=True):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"

    def __post_init__(self) -> None:
        if self.type == "RegularExpression":
            Regex.parse(self.value)
        elif not is_path(self.value):
            raise ValueError(
                f"{self.value!r} is not an absolute path: it must begin with / and contain no spaces, ? or #"
            )
        elif any(bad in self.value for bad in _BAD_IN_PATH) or self.value.endswith(_BAD_PATH_ENDS):
            raise ValueError(f"{self.value!r} is not in normal form: remove //, /./, /../ or %2F")


class HTTPRouteMatch(Struct, frozen=True, rename="camel"):
    path: PathMatch = PathMatch()
    headers: Annotated[tuple[HeaderMatch, ...], Meta(max_length=16)] = ()
    query_params: Annotated[tuple[QueryParamMatch, ...], Meta(max_length=16)] = ()
    method: Method | None = None

    def __post_init__(self) -> None:
        for name in (repeated(it.name for it in self.headers), repeated(it.name for it in self.query_params)):
            if name is not None:
                raise ValueError(f"{name} is repeated; a match may use each name once")


class Retry(Struct, frozen=True):
    """`attempts` counts retries after the first attempt."""

    codes: tuple[StatusCode, ...] = ()
    attempts: Annotated[int, Meta(ge=0)] | None = None
    backoff: Duration | None = None


class HTTPRouteRule(Struct, frozen=True, rename="camel"):
    name: SectionName | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], Meta(max_length=64)] = (HTTPRouteMatch(),)
    filters: Filters = ()
    backend_refs: Annotated[tuple[BackendRef, ...], Meta(max_length=16)] = ()
    timeouts: Timeouts = Timeouts()
    retry: Retry | None = None
    session_persistence: SessionPersistence | None = None

    def __post_init__(self) -> None:
        check_filters(self.filters)
        if self.backend_refs and any(it.request_redirect is not None for it in self.filters):
            raise ValueError("RequestRedirect sends the response itself: remove the filter or backendRefs")
        has_prefix = len(self.matches) == 1 and self.matches[0].path.type == "PathPrefix"
        if not has_prefix and any(map(_replaces_prefix, (self.filters, *(ref.filters for ref in self.backend_refs)))):
            raise ValueError("ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix")


class HTTPRouteSpec(Struct, frozen=True, rename="camel"):
    parent_refs: Annotated[tuple[ParentRef, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], Meta(min_length=1, max_length=16)] = (HTTPRouteRule(),)

    def __post_init__(self) -> None:
        check_parents(self.parent_refs)
        check_rule_names(rule.name for rule in self.rules)
        check_matches(len(rule.matches) for rule in self.rules)


class HTTPRoute(Ruled, frozen=True, rename="camel"):
    rule_lists: ClassVar[Mapping[str, RuleList]] = {
        "rules": http_rules(HTTPRouteRule, lambda rule, spec: stand_in(rule, HTTPRouteMatch))
    }

    metadata: Metadata
    spec: HTTPRouteSpec = field(default_factory=HTTPRouteSpec)


def _replaces_prefix(filters: Iterable[Filter]) -> bool:
    paths: list[PathModifier | None] = []
    for it in filters:
        paths += [it.request_redirect.path] if it.request_redirect is not None else []
        paths += [it.url_rewrite.path] if it.url_rewrite is not None else []
    return any(path is not None and path.type == "ReplacePrefixMatch" for path in paths)
