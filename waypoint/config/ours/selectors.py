"""Compile client selectors of our policies to conditions."""

import ipaddress
from collections.abc import Iterable, Iterator

from policies.matching import Exact, Regex, StringMatch
from policies.path_match import PathKind, PathMatch
from policies.path_normalization import PathNormalization
from policies.selector import (
    Condition,
    HeaderCondition,
    IdentityCondition,
    MethodCondition,
    PathCondition,
    QueryCondition,
    SourceCondition,
)
from waypoint.config.ours.policy_api import ClientIdentity, ClientSelector, PathSelector

_PATH_KINDS = {"Exact": PathKind.EXACT, "PathPrefix": PathKind.PREFIX}


Labelled = tuple[Condition, str]
"""A condition with the value that it distinguishes, or an empty text."""


def conditions_of(selectors: Iterable[ClientSelector], normalization: PathNormalization) -> tuple[Condition, ...]:
    """All conditions must hold."""
    return tuple(condition for condition, _ in labelled_conditions_of(selectors, normalization))


def labelled_conditions_of(
    selectors: Iterable[ClientSelector], normalization: PathNormalization
) -> tuple[Labelled, ...]:
    return tuple(labelled for selector in selectors for labelled in _conditions(selector, normalization))


def _conditions(selector: ClientSelector, normalization: PathNormalization) -> Iterator[Labelled]:
    if selector.methods:
        yield MethodCondition(tuple(method.encode() for method in selector.methods)), ""
    if selector.client_identity is not None:
        yield _identity(selector.client_identity), _label("identity", selector.client_identity.type)
    for header in selector.headers:
        name = header.name.lower()
        condition = HeaderCondition(name.encode(), _match(header.type, header.value), header.invert)
        yield condition, _label(f"header {name}", header.type)
    if selector.path is not None:
        yield PathCondition(_path(selector.path, normalization)), _label("path", selector.path.type)
    for parameter in selector.query_params:
        query = QueryCondition(parameter.name.encode(), _match(parameter.type, parameter.value))
        yield query, _label(f"query {parameter.name}", parameter.type)
    if selector.source_cidr is not None:
        kind = selector.source_cidr.type
        network = ipaddress.ip_network(selector.source_cidr.value)
        yield SourceCondition(network, kind == "Distinct"), _label("address", kind)


def _label(name: str, kind: str) -> str:
    return name if kind == "Distinct" else ""


def _match(kind: str, value: str | None) -> StringMatch | None:
    if kind == "Distinct" or value is None:
        return None
    return Regex.parse(value) if kind == "RegularExpression" else Exact(value.encode())


def _path(path: PathSelector, normalization: PathNormalization) -> PathMatch | None:
    if path.type == "Distinct" or path.value is None:
        return None
    if path.type == "RegularExpression":
        return PathMatch(PathKind.REGEX, path.value.encode(), Regex.parse(path.value))
    return PathMatch(_PATH_KINDS[path.type], normalization.of_path(path.value.encode()))


def _identity(identity: ClientIdentity) -> IdentityCondition:
    return IdentityCondition(
        namespaces=identity.namespaces,
        service_accounts=identity.service_accounts,
        principals=identity.principals,
        is_distinct=identity.type == "Distinct",
    )
