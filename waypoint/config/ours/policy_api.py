"""Common schemas of our own policies: targets and selectors.

Uses the Gateway API's direct policy attachment (GEP-713): a policy names objects of its namespace, or a part of one: a
rule of a route, or a port of a Service. All conditions of a selector must hold.
https://gateway-api.sigs.k8s.io/geps/gep-713/
"""

import ipaddress
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from policies.matching import Regex
from waypoint.config.api_fields import Group, HeaderName, Namespace, ObjectName, ParamName, SectionName, is_path
from waypoint.config.gateway_api.routes import Method

GATEWAY_API = "gateway.networking.k8s.io"
ISTIO = "networking.istio.io"
TARGET_GROUPS = {
    "HTTPRoute": GATEWAY_API,
    "GRPCRoute": GATEWAY_API,
    "Gateway": GATEWAY_API,
    "Service": "",
    "ServiceEntry": ISTIO,
}

FieldType = Literal["Exact", "RegularExpression", "Distinct"]
Value = Annotated[str, Meta(min_length=1, max_length=1024)]
Account = Annotated[
    str,
    Meta(max_length=317, pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+\Z", description="a service account as namespace/name"),
]
Range = Annotated[
    str,
    Meta(
        max_length=49,
        pattern=r"^[0-9a-fA-F:.]+(/(0|[1-9][0-9]{0,2}))?\Z",
        description="a range such as 10.0.0.0/8, or one address",
    ),
]
Principal = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=r"^[^/ ]+/ns/[^/ ]+/sa/[^/ ]+\Z",
        description="a principal such as cluster.local/ns/default/sa/reviews",
    ),
]


class TargetRef(Struct, frozen=True, rename="camel", omit_defaults=True):
    """`section_name` is the name of a route's rule, or of a Service's or ServiceEntry's port."""

    group: Group
    kind: Literal["HTTPRoute", "GRPCRoute", "Gateway", "Service", "ServiceEntry"]
    name: ObjectName
    section_name: SectionName | None = None

    def __post_init__(self) -> None:
        if self.group != TARGET_GROUPS[self.kind]:
            raise ValueError(f'{self.kind} is in the group "{TARGET_GROUPS[self.kind]}"')
        if self.kind == "Gateway" and self.section_name is not None:
            raise ValueError(
                "a waypoint's listener is not a valid target: remove sectionName, or target a Service and its port"
            )


TargetRefs = Annotated[tuple[TargetRef, ...], Meta(min_length=1, max_length=16)]


class HeaderSelector(Struct, frozen=True):
    name: HeaderName
    type: FieldType = "Exact"
    value: Value | None = None
    invert: bool = False

    def __post_init__(self) -> None:
        _check_value(self.type, self.value)
        if self.invert and self.type == "Distinct":
            raise ValueError("invert cannot be combined with Distinct; remove it")


class QueryParamSelector(Struct, frozen=True):
    name: ParamName
    type: FieldType = "Exact"
    value: Value | None = None

    def __post_init__(self) -> None:
        _check_value(self.type, self.value)


class PathSelector(Struct, frozen=True):
    type: Literal["Exact", "PathPrefix", "RegularExpression", "Distinct"] = "PathPrefix"
    value: Value | None = None

    def __post_init__(self) -> None:
        _check_value(self.type, self.value)
        if self.type in {"Exact", "PathPrefix"} and not is_path(self.value or ""):
            raise ValueError(f"value: {self.value!r} is not a path; it must begin with / and contain no spaces, ? or #")


class SourceCIDR(Struct, frozen=True):
    """With `Distinct`, each address of the range is counted separately."""

    value: Range
    type: Literal["Exact", "Distinct"] = "Exact"

    def __post_init__(self) -> None:
        try:
            network = ipaddress.ip_network(self.value)
        except ValueError as error:
            raise ValueError(f"value: {self.value!r} is not a range such as 10.0.0.0/8: {error}") from None
        if network.version == 6 and network.network_address.ipv4_mapped is not None:
            raise ValueError(f"value: {self.value!r} is a range of IPv4 addresses in IPv6; write it as 10.0.0.0/8")


class ClientIdentity(Struct, frozen=True, rename="camel"):
    """Within a list, any value may match; all given lists must match. With `Distinct`, each identity is counted
    separately."""

    type: Literal["Exact", "Distinct"] = "Exact"
    namespaces: Annotated[tuple[Namespace, ...], Meta(max_length=16)] = ()
    service_accounts: Annotated[tuple[Account, ...], Meta(max_length=16)] = ()
    principals: Annotated[tuple[Principal, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        if self.type == "Exact" and not (self.namespaces or self.service_accounts or self.principals):
            raise ValueError(
                "set namespaces, serviceAccounts or principals, or use type: Distinct to count each client separately"
            )


class ClientSelector(Struct, frozen=True, rename="camel"):
    headers: Annotated[tuple[HeaderSelector, ...], Meta(max_length=16)] = ()
    methods: Annotated[tuple[Method, ...], Meta(max_length=9)] = ()
    path: PathSelector | None = None
    source_cidr: SourceCIDR | None = field(name="sourceCIDR", default=None)
    query_params: Annotated[tuple[QueryParamSelector, ...], Meta(max_length=16)] = ()
    client_identity: ClientIdentity | None = None

    @property
    def distinct(self) -> tuple[str, ...]:
        """The fields that distinguish values."""
        fields = {
            "headers": any(it.type == "Distinct" for it in self.headers),
            "path": self.path is not None and self.path.type == "Distinct",
            "sourceCIDR": self.source_cidr is not None and self.source_cidr.type == "Distinct",
            "queryParams": any(it.type == "Distinct" for it in self.query_params),
            "clientIdentity": self.client_identity is not None and self.client_identity.type == "Distinct",
        }
        return tuple(name for name, is_distinct in fields.items() if is_distinct)


ClientSelectors = Annotated[tuple[ClientSelector, ...], Meta(max_length=8)]


def _check_value(kind: str, value: str | None) -> None:
    """Raises ValueError."""
    if kind == "Distinct" and value is not None:
        raise ValueError("value cannot be combined with Distinct; remove it")
    if kind != "Distinct" and value is None:
        raise ValueError(f"type {kind} needs a value")
    if kind == "RegularExpression":
        Regex.parse(value or "")
