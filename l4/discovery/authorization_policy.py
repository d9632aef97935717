"""AuthorizationPolicy (security.istio.io), checked as istiod's validation would; a field that is not known is refused.

The document is decoded in two steps. An object always loads, whatever its `spec` is; then the `spec` is read, and where
that fails, as much of it as says whom the policy is for: they are denied everything, because a policy that is left out
would let in what somebody wanted to keep out.
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
    """Whom the policy is for. Without any of these it is the whole namespace."""

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
            raise ValueError("serviceAccounts can't stand beside principals or namespaces; a rule of its own can")


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
            raise ValueError("give values or notValues")


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
            raise ValueError("selector and targetRefs: a policy is for workloads or for a waypoint, not for both")
        if self.action in {"DENY", "CUSTOM"} and not self.rules:
            raise ValueError(
                f"rules is missing, and {self.action} without rules is for no request: for all, write [{{}}]"
            )
        if (self.action == "CUSTOM") is (self.provider is None):
            raise ValueError("provider belongs to action CUSTOM, and to no other")


def _require_any(fields: Source | Operation) -> None:
    if not any(getattr(fields, name) for name in fields.__struct_fields__):
        raise ValueError("is empty; to mean everybody and everything, leave the whole entry out")
