"""The schemas of TCPRoute and TLSRoute, validated like the API server does.

Both have a single rule with backends only. Versions before v1 allowed several rules, but only the first could match.
https://gateway-api.sigs.k8s.io/reference/spec/#tcproute
"""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from l4.config.resources import Ruled
from l4.discovery.objects import Metadata
from waypoint.config.api_fields import Hostname, SectionName
from waypoint.config.gateway_api.routes import ParentRef, PlainBackendRef, check_parents, decodes
from waypoint.config.refused_rules import l4_rules


class L4Rule(Struct, frozen=True, rename="camel"):
    backend_refs: Annotated[tuple[PlainBackendRef, ...], Meta(min_length=1, max_length=16)]
    name: SectionName | None = None


def _stand_in(rule: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule that matches the same connections. Its backend is never resolved."""
    name = {"name": rule["name"]} if "name" in rule and decodes(rule["name"], SectionName) else {}
    return {**name, "backendRefs": [{"name": "refused", "port": 1}]}


_RULE_LISTS = {"rules": l4_rules(L4Rule, _stand_in)}
L4Rules = Annotated[tuple[L4Rule, ...], Meta(min_length=1, max_length=1)]


class TCPRouteSpec(Struct, frozen=True, rename="camel"):
    rules: L4Rules
    parent_refs: Annotated[tuple[ParentRef, ...], Meta(max_length=32)] = ()

    def __post_init__(self) -> None:
        check_parents(self.parent_refs)


class TCPRoute(Ruled, frozen=True):
    rule_lists = _RULE_LISTS

    metadata: Metadata
    spec: TCPRouteSpec


class TLSRouteSpec(Struct, frozen=True, rename="camel"):
    hostnames: Annotated[tuple[Hostname, ...], Meta(min_length=1, max_length=1024)]
    rules: L4Rules
    parent_refs: Annotated[tuple[ParentRef, ...], Meta(max_length=32)] = ()

    def __post_init__(self) -> None:
        check_parents(self.parent_refs)
        for hostname in self.hostnames:
            if _is_ip(hostname):
                raise ValueError(
                    f"hostnames: {hostname} is an address, but server names must be DNS names (RFC 6066 3)"
                )


class TLSRoute(Ruled, frozen=True):
    rule_lists = _RULE_LISTS

    metadata: Metadata
    spec: TLSRouteSpec


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
