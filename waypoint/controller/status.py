"""The status of a GatewayClass and of a Gateway, computed from the outcome of applying and the live objects. Pure.

A Gateway gets its addresses when the first replica is ready, and keeps them: ztunnels send traffic there from then on.
A condition keeps its `lastTransitionTime` as long as its status stays.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waypoint.config.status import Condition
from waypoint.controller.gateways import Gateway, GatewayClass, Listener
from waypoint.controller.rendering import HBONE

Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one Gateway. `problems` concern its parameters, `failures` its objects. `service` and `deployment`
    are live objects."""

    problems: Sequence[str] = ()
    failures: Sequence[str] = ()
    service: Given | None = None
    deployment: Given | None = None


def of_class(known: GatewayClass, now: str) -> dict[str, Any] | None:
    """The new status, or None when it stays as it is."""
    accepted = Condition("Accepted", True, "Accepted", "Waypoints are made for the Gateways of this class.")
    conditions = dumped([accepted], known.metadata.generation, known.status.conditions, now)
    return None if has_all(known.status.conditions, conditions) else {"conditions": conditions}


def of_gateway(gateway: Gateway, outcome: Outcome, cluster_domain: str, now: str) -> dict[str, Any] | None:
    """The new status, or None when it stays as it is."""
    known, generation = gateway.status, gateway.metadata.generation
    programmed = _programmed(gateway, outcome)
    conditions = dumped([_accepted(gateway, outcome), programmed], generation, known.conditions, now)
    addresses = _addresses(gateway, outcome, programmed.is_true, cluster_domain)
    listeners = []
    for it in gateway.spec.listeners:
        before = next((other for other in known.listeners if other.get("name") == it.name), {})
        own = dumped(_of_listener(it, programmed), generation, before.get("conditions") or [], now)
        listeners.append({"name": it.name, "attachedRoutes": 0, "supportedKinds": [], "conditions": own})
    is_same = (
        has_all(known.conditions, conditions)
        and known.addresses == addresses
        and len(known.listeners) == len(listeners)
        and all(_is_same_listener(*both) for both in zip(known.listeners, listeners, strict=True))
    )
    return None if is_same else {"addresses": addresses, "conditions": conditions, "listeners": listeners}


def _accepted(gateway: Gateway, outcome: Outcome) -> Condition:
    if outcome.problems:
        return Condition("Accepted", False, "InvalidParameters", "; ".join(outcome.problems))
    wrong = [sentence for it in gateway.spec.listeners if (sentence := _why_refused(it))]
    if len(wrong) == len(gateway.spec.listeners):
        return Condition("Accepted", False, "ListenersNotValid", "; ".join(wrong) or "the Gateway has no listener")
    if wrong:
        return Condition("Accepted", True, "ListenersNotValid", "; ".join(wrong))
    return Condition("Accepted", True, "Accepted", "The Gateway is understood.")


def _programmed(gateway: Gateway, outcome: Outcome) -> Condition:
    if not gateway.is_managed:
        sentence = "The Gateway has addresses of its own: the waypoint there is run by somebody else."
        return Condition("Programmed", True, "Programmed", sentence)
    if outcome.failures:
        return Condition("Programmed", False, "Invalid", "; ".join(outcome.failures))
    if not _cluster_ips(outcome):
        return Condition("Programmed", False, "AddressNotAssigned", "The waypoint's Service has no address yet.")
    status = (outcome.deployment or {}).get("status") or {}
    ready, wanted = status.get("readyReplicas") or 0, status.get("replicas") or 0
    if ready:
        return Condition("Programmed", True, "Programmed", "The waypoint is ready.")
    reasons = "; ".join(_complaints(status))
    sentence = f"None of the waypoint's {wanted} replicas is ready" if wanted else "The waypoint has no replicas yet"
    return Condition("Programmed", False, "Pending", f"{sentence}: {reasons}" if reasons else f"{sentence}.")


def _complaints(status: Given) -> Iterator[str]:
    for it in status.get("conditions") or ():
        is_bad = it.get("status") == ("True" if it.get("type") == "ReplicaFailure" else "False")
        if is_bad and it.get("type") in ("ReplicaFailure", "Progressing") and it.get("message"):
            yield it["message"]


def _addresses(gateway: Gateway, outcome: Outcome, is_ready: bool, cluster_domain: str) -> list[dict[str, Any]]:
    if not gateway.is_managed:
        return [
            {"type": it.get("type") or "IPAddress", "value": it.get("value")} for it in gateway.spec.addresses or ()
        ]
    ips = _cluster_ips(outcome)
    if not ips or not (is_ready or gateway.status.addresses):
        return []
    its = gateway.metadata
    hostname = {"type": "Hostname", "value": f"{its.name}.{its.namespace}.svc.{cluster_domain}"}
    return [hostname, *({"type": "IPAddress", "value": ip} for ip in ips)]


def _cluster_ips(outcome: Outcome) -> list[str]:
    spec = (outcome.service or {}).get("spec") or {}
    return [ip for ip in spec.get("clusterIPs") or () if ip and ip != "None"]


def _of_listener(listener: Listener, programmed: Condition) -> Iterator[Condition]:
    if sentence := _why_refused(listener):
        reason = "PortUnavailable" if listener.protocol == "HBONE" else "UnsupportedProtocol"
        yield Condition("Accepted", False, reason, sentence)
        yield Condition("Programmed", False, "Invalid", sentence)
    else:
        yield Condition("Accepted", True, "Accepted", "The listener is understood.")
        reason = "Programmed" if programmed.is_true else "Pending"
        yield Condition("Programmed", programmed.is_true, reason, programmed.message)
    yield Condition("Conflicted", False, "NoConflicts", "No other listener is in its way.")
    yield Condition("ResolvedRefs", True, "ResolvedRefs", "A waypoint's listener has no references.")


def _why_refused(listener: Listener) -> str:
    if (listener.protocol, listener.port) == ("HBONE", HBONE):
        return ""
    return (
        f"listener {listener.name} has protocol {listener.protocol} and port {listener.port}; "
        f"a waypoint listens with protocol HBONE on port {HBONE}"
    )


def dumped(conditions: Iterable[Condition], generation: int, known: Sequence[Given], now: str) -> list[dict[str, Any]]:
    """The conditions for the API. `known` are those of before."""
    made = []
    for it in conditions:
        before = next((other for other in known if other.get("type") == it.type), {})
        since = before.get("lastTransitionTime", now) if before.get("status") == _status(it) else now
        made.append(it.dump(generation, since))
    return made


def _status(condition: Condition) -> str:
    return "True" if condition.is_true else "False"


def has_all(known: Sequence[Given], conditions: Sequence[Given]) -> bool:
    """Conditions of other controllers are ignored."""
    return all(it in known for it in conditions)


def _is_same_listener(known: Given, wanted: Given) -> bool:
    names = ("name", "attachedRoutes")
    same = all(known.get(name) == wanted[name] for name in names) and not known.get("supportedKinds")
    return same and has_all(known.get("conditions") or [], wanted["conditions"])
