"""PeerAuthentication (security.istio.io): whether a workload accepts connections without mutual TLS.

Of mesh, namespace and workload, the narrowest object with a mode counts, and of several the oldest. STRICT is expressed
as a DENY policy against callers without a principal, as istiod does for ztunnel. An invalid PeerAuthentication counts
as STRICT. DISABLE behaves like PERMISSIVE: tunnels always have mutual TLS.
https://istio.io/latest/docs/reference/config/security/peer_authentication/
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from l4.config.documents import Problem
from l4.config.resources import Resource, sentence_of
from l4.discovery.authorization_policy import WorkloadSelector
from l4.discovery.codes import DiscoveryCode
from l4.discovery.objects import Metadata, is_port
from l4.discovery.workload import Workload
from policies.access import Condition, DestinationPort, Principal
from policies.authorization import Action, Policy, Rule
from policies.value_match import Ports, Texts

_UNAUTHENTICATED = Principal(Texts(("*",)), is_not=True)
_STRICT_POLICY = "istio_converted_static_strict"

Mode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class PeerAuthentication(Struct, frozen=True):
    metadata: Metadata
    spec: Any = None


class MutualTls(Struct, frozen=True, forbid_unknown_fields=True):
    mode: Mode = "UNSET"


class Selected(Struct, frozen=True):
    selector: WorkloadSelector | None = None


class PeerAuthenticationSpec(Selected, frozen=True, rename="camel", forbid_unknown_fields=True):
    mtls: MutualTls = MutualTls()
    port_level_mtls: Annotated[dict[str, MutualTls], Meta(max_length=512)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.port_level_mtls and (self.selector is None or not self.selector.match_labels):
            raise ValueError("portLevelMtls requires a selector with matchLabels")
        for port in self.port_level_mtls:
            if not is_port(port):
                raise ValueError(f"portLevelMtls: {port!r} is not a port from 1 to 65535")


@dataclass(frozen=True, slots=True)
class _Level:
    """The content of one object. `selector` is None if it applies to a whole namespace."""

    namespace: str
    name: str
    selector: Mapping[str, str] | None
    mode: Mode
    ports: Mapping[int, Mode]

    def selects(self, workload: Workload) -> bool:
        is_near = self.namespace == workload.namespace
        return is_near and self.selector is not None and self.selector.items() <= workload.labels.items()


class PeerAuthentications:
    def __init__(self, resources: Iterable[Resource[PeerAuthentication]], root_namespace: str) -> None:
        self.problems: list[Problem] = []
        self._root = root_namespace
        ordered = sorted(resources, key=lambda it: (it.value.metadata.creation_timestamp, it.key))
        self._levels = [self._read(resource) for resource in ordered]

    @property
    def is_empty(self) -> bool:
        return not self._levels

    def policy(self, workload: Workload) -> Policy | None:
        """Return the DENY policy for the workload's callers, or None if there is no restriction."""
        own = next((it for it in self._levels if it.selects(workload)), None)
        is_strict = self._mode(workload, own) == "STRICT"
        ports = {} if own is None or own.namespace == self._root else own.ports
        differing = sorted(port for port, mode in ports.items() if mode != "UNSET" and (mode == "STRICT") != is_strict)
        if own is not None and differing:
            name = f"converted_peer_authentication_{own.name}"
            return Policy(own.namespace, name, Action.DENY, tuple(_rules(tuple(differing), is_strict=is_strict)))
        if is_strict:
            return Policy(self._root, _STRICT_POLICY, Action.DENY, (_rule(0),))
        return None

    def _mode(self, workload: Workload, own: _Level | None) -> Mode:
        levels = [own] if own is not None else []
        for namespace in (workload.namespace, self._root):
            levels += [it for it in self._levels if it.namespace == namespace and it.selector is None][:1]
        return next((level.mode for level in levels if level.mode != "UNSET"), "PERMISSIVE")

    def _read(self, resource: Resource[PeerAuthentication]) -> _Level:
        key, content = resource.key, resource.value.spec or {}
        try:
            spec = msgspec.convert(content, PeerAuthenticationSpec)
        except msgspec.ValidationError as error:
            sentence, place = sentence_of(error)
            sentence = f"{sentence}; until this is fixed, its workloads accept only mutual TLS"
            at = f"spec.{place}".rstrip(".")
            self.problems.append(Problem(resource.origin, str(key), at, sentence, DiscoveryCode.AUTHORIZATION_INVALID))
            return _Level(key.namespace, key.name, _selector(content), "STRICT", {})
        level = _Level(key.namespace, key.name, _labels(spec), spec.mtls.mode, {})
        return replace(level, ports={int(port): it.mode for port, it in spec.port_level_mtls.items()})


def _selector(content: object) -> Mapping[str, str] | None:
    """Return the selector of an invalid spec. If the selector is invalid too, the whole namespace is selected."""
    try:
        return _labels(msgspec.convert(content, Selected))
    except msgspec.ValidationError:
        return None


def _labels(spec: Selected) -> Mapping[str, str] | None:
    """Return the selector's labels. A selector without labels applies to the whole namespace, like none."""
    return spec.selector.match_labels or None if spec.selector is not None else None


def _rules(ports: tuple[int, ...], *, is_strict: bool) -> Iterator[Rule]:
    """Return rules that deny at all ports except these, or at these ports only."""
    if is_strict:
        yield _rule(0, DestinationPort(Ports(ports), is_not=True))
    else:
        yield from (_rule(index, DestinationPort(Ports((port,)))) for index, port in enumerate(ports))


def _rule(index: int, *more: Condition) -> Rule:
    return Rule(index, tuple(((condition,),) for condition in (_UNAUTHENTICATED, *more)))
