"""The schema of AuthorizationPolicy (security.istio.io), validated like istiod does. Unknown fields are rejected.

A document is decoded in two steps. Its metadata always loads, whatever `spec` contains; then `spec` is parsed. If that
fails, the part of it that selects the policy's targets is parsed, and these targets deny everything: ignoring a policy
would allow access that somebody wanted to deny.
https://istio.io/latest/docs/reference/config/security/authorization-policy/
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from l4.discovery.objects import Metadata

Text = Annotated[str, Meta(min_length=1)]
Texts = tuple[Text, ...]
DRY_RUN = "istio.io/dry-run"


class AuthorizationPolicy(Struct, frozen=True):
    metadata: Metadata
    spec: Any = None


class PolicyTargetRef(Struct, frozen=True):
    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str | None = None


class WorkloadSelector(Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = field(default_factory=dict)


class Targeting(Struct, frozen=True, rename="camel"):
    """The targets of the policy. Without any of these fields, it applies to the whole namespace."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetRef | None = None
    target_refs: Annotated[tuple[PolicyTargetRef, ...], Meta(max_length=16)] = ()

    @property
    def refs(self) -> tuple[PolicyTargetRef, ...]:
        return self.target_refs if self.target_ref is None else (*self.target_refs, self.target_ref)


class Source(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    principals: Texts = ()
    not_principals: Texts = ()
    request_principals: Texts = ()
    not_request_principals: Texts = ()
    namespaces: Texts = ()
    not_namespaces: Texts = ()
    trust_domains: Texts = ()
    not_trust_domains: Texts = ()
    service_accounts: Texts = ()
    not_service_accounts: Texts = ()
    ip_blocks: Texts = ()
    not_ip_blocks: Texts = ()
    remote_ip_blocks: Texts = ()
    not_remote_ip_blocks: Texts = ()

    def __post_init__(self) -> None:
        _require_any(self)
        accounts = self.service_accounts or self.not_service_accounts
        if accounts and (self.principals or self.not_principals or self.namespaces or self.not_namespaces):
            raise ValueError("serviceAccounts cannot be combined with principals or namespaces; use a separate rule")


class Operation(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    hosts: Texts = ()
    not_hosts: Texts = ()
    ports: Texts = ()
    not_ports: Texts = ()
    methods: Texts = ()
    not_methods: Texts = ()
    paths: Texts = ()
    not_paths: Texts = ()

    def __post_init__(self) -> None:
        _require_any(self)


class From(Struct, frozen=True, forbid_unknown_fields=True):
    source: Source


class To(Struct, frozen=True, forbid_unknown_fields=True):
    operation: Operation


class When(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    key: Text
    values: Texts = ()
    not_values: Texts = ()

    def __post_init__(self) -> None:
        if not self.values and not self.not_values:
            raise ValueError("set values or notValues")


class RuleSpec(Struct, frozen=True, forbid_unknown_fields=True):
    from_: tuple[From, ...] = field(default=(), name="from")
    to: tuple[To, ...] = ()
    when: tuple[When, ...] = ()


class Provider(Struct, frozen=True, forbid_unknown_fields=True):
    name: Text


class Spec(Targeting, frozen=True, rename="camel", forbid_unknown_fields=True):
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    rules: Annotated[tuple[RuleSpec, ...], Meta(max_length=512)] = ()
    provider: Provider | None = None

    def __post_init__(self) -> None:
        if self.selector is not None and self.refs:
            raise ValueError(
                "selector and targetRefs exclude each other: a policy applies to workloads or to a waypoint"
            )
        if self.action in {"DENY", "CUSTOM"} and not self.rules:
            raise ValueError(
                f"rules is missing, and {self.action} without rules matches no request; to match all, write [{{}}]"
            )
        if (self.action == "CUSTOM") is (self.provider is None):
            raise ValueError("provider is valid only for action CUSTOM")


def _require_any(fields: Source | Operation) -> None:
    if not any(getattr(fields, name) for name in fields.__struct_fields__):
        raise ValueError("is empty; to match everything, omit the whole entry")
