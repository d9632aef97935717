"""Dump a snapshot as plain values, for `/config_dump` and `waypoint compile`.

Policies are dumped field by field without default values, so new fields are included automatically.
"""

from collections.abc import Mapping, Set
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from policies.authorization import Authorization, Policy
from policies.cel import Expression
from policies.filters import NO_FILTERS, ORDER
from policies.host_port import host_port
from policies.jwt import Authentication
from policies.matching import Prefix, Regex
from policies.mirror import Mirror
from policies.opaque import OpaqueRoute
from policies.rewrite import HeaderEdit
from policies.route import Match, Route, Rule, WeightedBackend
from waypoint.config.istio.authorization_words import rule_words
from waypoint.config.snapshot import ClusterConfig, Destination, Snapshot
from waypoint.config.transitions import Since, never


def dump(snapshot: Snapshot, since: Since = never) -> dict[str, object]:
    """Return the snapshot as plain values."""
    return {
        "version": snapshot.version,
        "destinations": {
            host_port(host, port): _destination(destination)
            for (host, port), destination in sorted(snapshot.destinations.items(), key=lambda it: it[0])
        },
        "clusters": {name: _cluster(config) for name, config in sorted(snapshot.clusters.items())},
        "status": {str(status.key): status.dump(since) for status in snapshot.statuses},
        "problems": [str(problem) for problem in snapshot.problems],
    }


def _destination(destination: Destination) -> dict[str, object]:
    return {
        "service": destination.service.hostname,
        "protocol": destination.app_protocol.value,
        **_unless_empty("authentication", _authentication(destination.authentication)),
        **_authorization(destination.authorization),
        **_unless_empty("authorizers", {name: _fields(it) for name, it in (destination.authorizers or {}).items()}),
        **_unless_empty("telemetry", _plain(destination.telemetry)),
        "routes": [_route(route) for route in destination.routes.routes],
        **_unless_empty("opaque", [_opaque(it) for it in destination.opaque.routes if it.rule.source is not None]),
        **_unless_empty(
            "consumer_routes",
            {name: [_route(it) for it in table.routes] for name, table in destination.consumer_routes.items()},
        ),
        **_unless_empty(
            "consumer_opaque",
            {name: [_opaque(it) for it in table.routes] for name, table in destination.consumer_opaque.items()},
        ),
    }


def _authentication(authentication: Authentication | None) -> list[object]:
    return [_plain(rule) for rule in authentication.rules] if authentication is not None else []


def _authorization(authorization: Authorization | None) -> dict[str, object]:
    return {} if authorization is None else {"authorization": [_policy(it) for it in authorization.policies]}


def _policy(policy: Policy) -> dict[str, object]:
    return {
        "policy": str(policy),
        "action": policy.action.value,
        **_unless_empty("dry_run", policy.is_dry_run),
        **_unless_empty("provider", policy.provider),
        "rules": [rule_words(rule) for rule in policy.rules],
    }


def _cluster(config: ClusterConfig) -> dict[str, object]:
    endpoints = [
        {
            "address": str(endpoint),
            "identity": str(endpoint.identity or ""),
            "weight": endpoint.weight,
            **_fields(endpoint.rank),
        }
        for endpoint in config.endpoints
    ]
    names = [{"address": f"{named.name}:{named.ports[config.port]}", "weight": named.weight} for named in config.names]
    besides = {"name", "service", "port", "app_protocol", "endpoints", "names", "followed"}
    settings = _fields(config, besides=besides)
    return {"endpoints": [*endpoints, *names], **_unless_empty("followed", _followed(config)), **settings}


def _followed(config: ClusterConfig) -> dict[str, object]:
    it = config.followed
    if it is None:
        return {}
    return {"by": it.by.value, "hosts": it.hosts, "networks": list(it.networks), "port": it.ports[config.port]}


def _route(route: Route) -> dict[str, object]:
    return {**_match(route.match), **_rule(route.rule)}


def _opaque(route: OpaqueRoute) -> dict[str, object]:
    return {"server_name": route.hostname or "*", **_rule(route.rule)}


def _match(match: Match) -> dict[str, object]:
    path = match.path
    return {
        "path": f"{path.kind.name} {path.value.decode()}{' in any case' if path.ignores_case else ''}",
        **_unless_empty("method", match.method.decode() if match.method else ""),
        **_unless_empty("headers", {field.name.decode(): _plain(field.match) for field in match.headers}),
        **_unless_empty("query", {field.name.decode(): _plain(field.match) for field in match.query}),
        **_unless_empty("without", {field.name.decode(): _plain(field.match) for field in match.without}),
        **_unless_empty("clients", _fields(match.source) if match.source is not None else {}),
    }


def _rule(rule: Rule) -> dict[str, object]:
    return {
        "rule": rule.name,
        **_unless_empty("source", str(rule.source or "")),
        "backends": [_backend(backend) for backend in rule.backends],
        **_filters(rule),
        **_fields(rule, besides={"name", "source", "backends", "filters"}),
        **_policies(rule),
    }


def _backend(backend: WeightedBackend) -> dict[str, object]:
    filters = {**_filters(backend), **_policies(backend)}
    return {"cluster": backend.cluster or "unresolved", "weight": backend.weight, **filters}


def _filters(owner: Rule | WeightedBackend) -> dict[str, object]:
    return _fields(owner.filters, besides={"policies"}) if owner.filters is not NO_FILTERS else {}


def _policies(owner: Rule | WeightedBackend) -> dict[str, object]:
    """Return the policies by the name of their type. There may be several mirrors."""
    found: dict[str, object] = {}
    for policy in owner.filters.policies:
        name = ORDER[type(policy)]
        if isinstance(policy, Mirror):
            found.setdefault(name, []).append(_plain(policy))  # type: ignore[attr-defined]
        else:
            found[name] = _plain(policy)
    return found


def _edit(edit: HeaderEdit) -> dict[str, object]:
    return {
        **_unless_empty("authority", edit.authority.decode() if edit.authority else ""),
        **_unless_empty("set", {name.decode(): value.decode() for name, value in edit.set}),
        **_unless_empty("add", {name.decode(): value.decode() for name, value in edit.add}),
        **_unless_empty("remove", [name.decode() for name in edit.remove]),
        **_unless_empty("formatted", {it.name.decode(): it.format.text for it in edit.formatted}),
    }


def _unless_empty(name: str, value: object) -> dict[str, object]:
    return {name: value} if value else {}


def _fields(value: Any, besides: Set[str] = frozenset()) -> dict[str, object]:
    """Return a dataclass's fields that are in its `repr` and differ from their defaults."""
    shown = (it for it in fields(value) if it.name not in besides and it.repr and not it.name.startswith("_"))
    return {it.name: _plain(getattr(value, it.name)) for it in shown if getattr(value, it.name) != _default(it)}


def _default(field: Field[Any]) -> object:
    return field.default if field.default is not MISSING else None


def _plain(value: Any) -> object:
    match value:
        case bytes():
            return value.decode("latin-1")
        case IPv4Network() | IPv6Network():
            return str(value)
        case Enum():
            return value.name
        case Regex():
            return f"~{value.value.decode()}"
        case Prefix():
            return f"{value.value.decode('latin-1')}*"
        case Expression():
            return value.text
        case HeaderEdit():
            return _edit(value)
        case tuple() | list():
            return [_plain(item) for item in value]
        case Set():
            return sorted(str(_plain(item)) for item in value)
        case Mapping():
            return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if is_dataclass(value):
        own = _fields(value)
        return own["value"] if own.keys() == {"value"} else own
    return value
