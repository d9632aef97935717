"""Client selectors of our policies → the conditions that the data path asks."""

import ipaddress
from collections.abc import Iterable, Iterator

from policies.matching import Exact, Regex, StringMatch
from policies.route import PathKind, PathMatch
from policies.selector import (
    Condition,
    HeaderCondition,
    IdentityCondition,
    MethodCondition,
    PathCondition,
    QueryCondition,
    SourceCondition,
)
from waypoint.config.policy_api import ClientIdentity, ClientSelector, PathSelector

_PATH_KINDS = {"Exact": PathKind.EXACT, "PathPrefix": PathKind.PREFIX, "RegularExpression": PathKind.REGEX}


def conditions_of(selectors: Iterable[ClientSelector]) -> tuple[Condition, ...]:
    """All of them must hold."""
    return tuple(condition for selector in selectors for condition in _conditions(selector))


def _conditions(selector: ClientSelector) -> Iterator[Condition]:
    if selector.methods:
        yield MethodCondition(tuple(method.encode() for method in selector.methods))
    if selector.client_identity is not None:
        yield _identity(selector.client_identity)
    for header in selector.headers:
        yield HeaderCondition(header.name.lower().encode(), _match(header.type, header.value), header.invert)
    if selector.path is not None:
        yield PathCondition(_path(selector.path))
    for parameter in selector.query_params:
        yield QueryCondition(parameter.name.encode(), _match(parameter.type, parameter.value))
    if selector.source_cidr is not None:
        is_distinct = selector.source_cidr.type == "Distinct"
        yield SourceCondition(ipaddress.ip_network(selector.source_cidr.value), is_distinct)


def _match(kind: str, value: str | None) -> StringMatch | None:
    if kind == "Distinct" or value is None:
        return None
    return Regex.parse(value) if kind == "RegularExpression" else Exact(value.encode())


def _path(path: PathSelector) -> PathMatch | None:
    if path.type == "Distinct" or path.value is None:
        return None
    regex = Regex.parse(path.value) if path.type == "RegularExpression" else None
    return PathMatch(_PATH_KINDS[path.type], path.value.encode(), regex)


def _identity(identity: ClientIdentity) -> IdentityCondition:
    return IdentityCondition(
        namespaces=identity.namespaces,
        service_accounts=identity.service_accounts,
        principals=identity.principals,
        is_distinct=identity.type == "Distinct",
    )
