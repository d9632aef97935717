"""Convert an `istio.security.Authorization` to a policy of ztunnels.

A rule applies if all its clauses do, and a clause if one of its matches does. A match without any condition counts for
nothing: the control plane leaves one behind where a condition was about HTTP. A policy with a field that is not known
here is refused, because without that field it might allow more than was meant.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from l4._proto import authorization_pb2 as wire
from l4.discovery.workload import Workload
from l4.discovery.workload_policies import Area, Scope, ScopedPolicy
from l4.xds.resource import Refused
from policies.access import (
    Condition,
    DestinationIp,
    DestinationPort,
    Namespace,
    Principal,
    ServiceAccount,
    SourceIp,
)
from policies.authorization import Action, Policy, Rule
from policies.value_match import Network, Networks, Ports, Texts

TYPE = "type.googleapis.com/istio.security.Authorization"
_EXTENSIONS = 7
"""Of a whole policy, and ignored as by ztunnel."""
_ACTIONS = {wire.ALLOW: Action.ALLOW, wire.DENY: Action.DENY}


@dataclass(frozen=True, slots=True)
class Named:
    """The workloads that refer to the policy by its `NAMESPACE/NAME`."""

    name: str

    def covers(self, workload: Workload) -> bool:
        return self.name in workload.authorization_policies


def convert(content: bytes) -> ScopedPolicy:
    """Raises Refused."""
    try:
        it = wire.Authorization.FromString(content)
    except DecodeError:
        raise Refused("its bytes are no istio.security.Authorization") from None
    if not it.name:
        raise Refused("name: it is empty")
    if it.action not in _ACTIONS:
        raise Refused(f"action: {it.action} is not a value that is known here")
    _check_known(it, "", frozenset({_EXTENSIONS}))
    rules = tuple(Rule(index, tuple(_groups(rule, f"rules[{index}]"))) for index, rule in enumerate(it.rules))
    return ScopedPolicy(Policy(it.namespace, it.name, _ACTIONS[it.action], rules, it.dry_run), _scope(it))


def name_of(known: ScopedPolicy) -> str:
    """Return the name that the server must have for it."""
    return str(known.policy)


def _scope(it: wire.Authorization) -> Scope:
    match it.scope:
        case wire.GLOBAL:
            return Area()
        case wire.NAMESPACE:
            return Area(it.namespace)
        case wire.WORKLOAD_SELECTOR:
            return Named(f"{it.namespace}/{it.name}")
    raise Refused(f"scope: {it.scope} is not a value that is known here")


def _groups(rule: wire.Rule, place: str) -> Iterator[tuple[tuple[Condition, ...], ...]]:
    _check_known(rule, place)
    for number, clause in enumerate(rule.clauses):
        at = f"{place}.clauses[{number}]"
        _check_known(clause, at)
        if clause.matches:
            alternatives = (tuple(_conditions(it, f"{at}.matches[{i}]")) for i, it in enumerate(clause.matches))
            yield tuple(filter(None, alternatives))


def _conditions(it: wire.Match, place: str) -> Iterator[Condition]:
    """Yield the conditions that must all hold."""
    _check_known(it, place)
    for is_not, namespaces, principals, accounts, sources, destinations, ports in (
        (
            False,
            it.namespaces,
            it.principals,
            it.service_accounts,
            it.source_ips,
            it.destination_ips,
            it.destination_ports,
        ),
        (
            True,
            it.not_namespaces,
            it.not_principals,
            it.not_service_accounts,
            it.not_source_ips,
            it.not_destination_ips,
            it.not_destination_ports,
        ),
    ):
        if namespaces:
            yield Namespace(_texts(namespaces, f"{place}.namespaces"), is_not)
        if principals:
            yield Principal(_texts(principals, f"{place}.principals"), is_not)
        if accounts:
            yield ServiceAccount(_accounts(accounts, f"{place}.service_accounts"), is_not)
        if sources:
            yield SourceIp(_networks(sources, f"{place}.source_ips"), is_not)
        if destinations:
            yield DestinationIp(_networks(destinations, f"{place}.destination_ips"), is_not)
        if ports:
            yield DestinationPort(Ports(tuple(ports)), is_not)


def _texts(matches: Iterable[wire.StringMatch], place: str) -> Texts:
    return Texts(tuple(_text(it, place) for it in matches))


def _text(it: wire.StringMatch, place: str) -> str:
    _check_known(it, place)
    kind = it.WhichOneof("match_type")
    if kind == "presence":
        return "*"
    if kind is None:
        raise Refused(f"{place}: a match of text has neither exact, prefix, suffix nor presence")
    value: str = getattr(it, kind)
    if "*" in value:
        raise Refused(f"{place}: {value!r} contains *, which no name does")
    return {"exact": value, "prefix": f"{value}*", "suffix": f"*{value}"}[kind]


def _accounts(matches: Iterable[wire.ServiceAccountMatch], place: str) -> Texts:
    found: list[str] = []
    for it in matches:
        _check_known(it, place)
        text = f"{it.namespace}/{it.service_account}"
        if not it.namespace or not it.service_account or "*" in text:
            raise Refused(f"{place}: {text!r} is not a namespace and the name of an account")
        found.append(text)
    return Texts(tuple(found))


def _networks(addresses: Iterable[wire.Address], place: str) -> Networks:
    return Networks(tuple(_network(it, place) for it in addresses))


def _network(it: wire.Address, place: str) -> Network:
    _check_known(it, place)
    raw, length = it.address, it.length
    if len(raw) not in (4, 16) or length > len(raw) * 8:
        raise Refused(f"{place}: {raw.hex() or 'nothing'}/{length} is no network")
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is not None and length >= 96:
        address, length = mapped, length - 96
    return ipaddress.ip_network(f"{address}/{length}", strict=False)


def _check_known(message: Message, place: str, allowed: frozenset[int] = frozenset()) -> None:
    unknown = UnknownFieldSet(message)
    for number in (unknown[index].field_number for index in range(len(unknown))):
        if number not in allowed:
            at = place or "the policy"
            raise Refused(f"{at}: it has a field {number} that is not known here, and may not be left out")
