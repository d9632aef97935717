"""The kinds of `pywaypoint.dev` that attach to rules and that filters enforce. `ATTACHED` lists them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from l4.config.resources import Resource
from l4.discovery.registry import Registry
from policies.path_normalization import PathNormalization
from waypoint.config.destinations import Destinations
from waypoint.config.ours.direct_policy import Target
from waypoint.config.ours.fault_policy import FaultPolicy, plan_of
from waypoint.config.ours.rate_limit_policy import LimitCompiler, RateLimitPolicy
from waypoint.config.report import Report

GROUP = "pywaypoint.dev"

Compile = Callable[[Resource[Any], Target, Report], object]
"""Compiles an object for one of its targets to the policy of a filter."""


@dataclass(frozen=True, slots=True)
class Compiling:
    """The inputs of a kind's compiler. `gateway` is the (namespace, name) of our Gateway."""

    registry: Registry
    gateway: tuple[str, str]
    normalization: PathNormalization
    clusters: Destinations


@dataclass(frozen=True, slots=True)
class AttachedKind:
    """`schema` has `metadata`, and a `spec` with `target_refs`."""

    name: str
    schema: type
    compiler: Callable[[Compiling], Compile]


def _limits(it: Compiling) -> Compile:
    return LimitCompiler(it.registry, it.gateway, it.normalization, it.clusters).limits


def _faults(it: Compiling) -> Compile:
    return lambda resource, target, _: plan_of(resource, target, it.normalization)


ATTACHED: tuple[AttachedKind, ...] = (
    AttachedKind("RateLimitPolicy", RateLimitPolicy, _limits),
    AttachedKind("FaultPolicy", FaultPolicy, _faults),
)
