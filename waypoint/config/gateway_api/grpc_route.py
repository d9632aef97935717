"""The schema of GRPCRoute, standard and experimental channel, validated like the API server does.

https://gateway-api.sigs.k8s.io/reference/spec/#grpcroute
"""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from l4.config.resources import Ruled, RuleList
from l4.discovery.objects import Metadata
from policies.matching import Regex
from waypoint.config.api_fields import Hostname, SectionName, repeated
from waypoint.config.gateway_api.routes import (
    BackendRef,
    Filter,
    HeaderMatch,
    MatchType,
    ParentRef,
    SessionPersistence,
    check_filters,
    check_matches,
    check_parents,
    check_rule_names,
    stand_in,
)
from waypoint.config.refused_rules import http_rules

_SERVICE = re.compile(r"\.?[A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_][A-Za-z_0-9]*)*").fullmatch
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*").fullmatch


class GRPCMethodMatch(Struct, frozen=True):
    type: MatchType = "Exact"
    service: Annotated[str, Meta(max_length=1024)] | None = None
    method: Annotated[str, Meta(max_length=1024)] | None = None

    def __post_init__(self) -> None:
        if not self.service and not self.method:
            raise ValueError("is empty: add service or method, or omit the match")
        if self.type == "RegularExpression":
            for expression in filter(None, (self.service, self.method)):
                Regex.parse(expression)
            return
        if self.service is not None and not _SERVICE(self.service):
            raise ValueError(f"service: {self.service!r} is not a gRPC service such as bookinfo.v1.Reviews")
        if self.method is not None and not _METHOD(self.method):
            raise ValueError(f"method: {self.method!r} is not a gRPC method such as GetReview")


class GRPCRouteMatch(Struct, frozen=True):
    method: GRPCMethodMatch | None = None
    headers: Annotated[tuple[HeaderMatch, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        if (name := repeated(it.name for it in self.headers)) is not None:
            raise ValueError(f"{name} is repeated; a match may use each name once")


class GRPCFilter(Filter, frozen=True, rename="camel"):
    type: Literal["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"]


GRPCFilters = Annotated[tuple[GRPCFilter, ...], Meta(max_length=16)]


class GRPCBackendRef(BackendRef, frozen=True):
    filters: GRPCFilters = ()


class GRPCRouteRule(Struct, frozen=True, rename="camel"):
    """Without matches, it matches every request."""

    name: SectionName | None = None
    matches: Annotated[tuple[GRPCRouteMatch, ...], Meta(max_length=64)] = ()
    filters: GRPCFilters = ()
    backend_refs: Annotated[tuple[GRPCBackendRef, ...], Meta(max_length=16)] = ()
    session_persistence: SessionPersistence | None = None

    def __post_init__(self) -> None:
        check_filters(self.filters)


class GRPCRouteSpec(Struct, frozen=True, rename="camel"):
    parent_refs: Annotated[tuple[ParentRef, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[GRPCRouteRule, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        check_parents(self.parent_refs)
        check_rule_names(rule.name for rule in self.rules)
        check_matches(len(rule.matches) for rule in self.rules)


class GRPCRoute(Ruled, frozen=True):
    rule_lists: ClassVar[Mapping[str, RuleList]] = {
        "rules": http_rules(GRPCRouteRule, lambda rule, spec: stand_in(rule, GRPCRouteMatch))
    }

    metadata: Metadata
    spec: GRPCRouteSpec = field(default_factory=GRPCRouteSpec)
