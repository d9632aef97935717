"""What our own policies have in common: what they are attached to, and which requests they are for.

Direct policy attachment as the Gateway API has it (GEP-713): a policy names objects of its own namespace, or a part of
one: a rule of a route, a port of a Service. All that a selector asks for must hold.
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
Principal = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=r"^[^/ ]+/ns/[^/ ]+/sa/[^/ ]+\Z",
        description="a principal such as cluster.local/ns/default/sa/reviews",
    ),
]


class TargetRef(Struct, frozen=True, rename="camel"):
    """`section_name` is a rule's name in a route, and a port's name in a Service or ServiceEntry."""

    group: Group
    kind: Literal["HTTPRoute", "GRPCRoute", "Gateway", "Service", "ServiceEntry"]
    name: ObjectName
    section_name: SectionName | None = None

    def __post_init__(self) -> None:
        if self.group != TARGET_GROUPS[self.kind]:
            raise ValueError(f'{self.kind} is in the group "{TARGET_GROUPS[self.kind]}"')
        if self.kind == "Gateway" and self.section_name is not None:
            raise ValueError("a waypoint's listener is no target: take sectionName out, or name a Service and its port")


TargetRefs = Annotated[tuple[TargetRef, ...], Meta(min_length=1, max_length=16)]


class HeaderSelector(Struct, frozen=True):
    name: HeaderName
    type: FieldType = "Exact"
    value: Value | None = None
    invert: bool = False

    def __post_init__(self) -> None:
        _check_value(self.type, self.value)
        if self.invert and self.type == "Distinct":
            raise ValueError("invert has no meaning where each value is distinct; take it out")


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
            raise ValueError(f"value: {self.value!r} is no path; it begins with / and contains no spaces, ? or #")


class SourceCIDR(Struct, frozen=True):
    """`Distinct`: each address of the range by itself."""

    value: Annotated[str, Meta(max_length=49)]
    type: Literal["Exact", "Distinct"] = "Exact"

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_network(self.value)
        except ValueError as error:
            raise ValueError(f"value: {self.value!r} is no range such as 10.0.0.0/8: {error}") from None


class ClientIdentity(Struct, frozen=True, rename="camel"):
    """Of one list any may hold, of the lists all must. `Distinct`: each identity by itself."""

    type: Literal["Exact", "Distinct"] = "Exact"
    namespaces: Annotated[tuple[Namespace, ...], Meta(max_length=16)] = ()
    service_accounts: Annotated[tuple[Account, ...], Meta(max_length=16)] = ()
    principals: Annotated[tuple[Principal, ...], Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        if self.type == "Exact" and not (self.namespaces or self.service_accounts or self.principals):
            raise ValueError(
                "give namespaces, serviceAccounts or principals; for each client by itself, type: Distinct"
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
        """The fields that tell each value apart."""
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
        raise ValueError("value has no meaning where each value is distinct; take it out")
    if kind != "Distinct" and value is None:
        raise ValueError(f"type {kind} needs a value")
    if kind == "RegularExpression":
        Regex.parse(value or "")
