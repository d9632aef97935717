"""Security policies without the intended effect: HTTP fields at ztunnels, tokens that nothing verifies, a blocked port.

AuthorizationPolicy in ztunnels: https://istio.io/latest/docs/ambient/usage/l4-policy/
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from l4.config.documents import Document, Problem
from l4.discovery.label_names import GATEWAY_NAME, USE_WAYPOINT
from l4.discovery.objects import ROOT_NAMESPACE, LabelSelector
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.bindings import is_enrolled
from waypoint.ask.lint.subject import Subject, items, labels, mapping, problem

HBONE_PORT = 15008
_OPERATION_FIELDS = ("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths")
_TOKEN_FIELDS = ("requestPrincipals", "notRequestPrincipals")
_SOURCE_FIELDS = (*_TOKEN_FIELDS, "remoteIpBlocks", "notRemoteIpBlocks")

Content = Mapping[str, Any]


def lint(subject: Subject) -> Iterator[Problem]:
    for policy in subject.of_kind("AuthorizationPolicy"):
        if policy.key.group == "security.istio.io":
            yield from _http_at_ztunnel(subject, policy)
            yield from _unchecked_tokens(subject, policy)
            yield from _unknown_namespaces(subject, policy)
    for policy in subject.of_kind("AuthorizationPolicy", "PeerAuthentication"):
        if policy.key.group == "security.istio.io":
            yield from _selecting_nobody(subject, policy)
    yield from _blocked_port(subject)


# -- AuthorizationPolicy -------------------------------------------------------------------------------------------


def _http_at_ztunnel(subject: Subject, policy: Document) -> Iterator[Problem]:
    spec = mapping(policy.content.get("spec"))
    namespace = subject.namespace(policy.key.namespace)
    is_ambient = namespace is not None and (is_enrolled(namespace) or USE_WAYPOINT in labels(namespace))
    if not is_ambient or spec.get("targetRefs") or spec.get("targetRef") or spec.get("action") == "CUSTOM":
        return
    field = next(_http_fields(spec), None)
    if field is not None:
        sentence = (
            "only a waypoint can evaluate this, but a policy without targetRefs applies to ztunnels, which then deny "
            "more than intended; target the Service or the waypoint's Gateway"
        )
        yield problem(policy, field, sentence, LintCode.SELECTOR_POLICY_WITH_L7)


def _http_fields(spec: Content) -> Iterator[str]:
    for number, rule in items(spec.get("rules")):
        place = f"spec.rules[{number}]"
        for index, to in items(rule.get("to")):
            operation = mapping(to.get("operation"))
            yield from (f"{place}.to[{index}].operation.{name}" for name in _OPERATION_FIELDS if operation.get(name))
        for index, origin in items(rule.get("from")):
            source = mapping(origin.get("source"))
            yield from (f"{place}.from[{index}].source.{name}" for name in _SOURCE_FIELDS if source.get(name))
        for index, condition in items(rule.get("when")):
            if str(condition.get("key")).startswith(("request.", "remote.")):
                yield f"{place}.when[{index}].key"


def _unchecked_tokens(subject: Subject, policy: Document) -> Iterator[Problem]:
    checked = {document.key.namespace for document in subject.of_kind("RequestAuthentication")}
    if checked & {policy.key.namespace, ROOT_NAMESPACE}:
        return
    field = next(_token_fields(mapping(policy.content.get("spec"))), None)
    if field is not None:
        sentence = (
            f"no token is verified here: there is no RequestAuthentication in {policy.key.namespace} or "
            f"{ROOT_NAMESPACE}, so no request has a principal or claims"
        )
        yield problem(policy, field, sentence, LintCode.CLAIMS_NOT_CHECKED)


def _token_fields(spec: Content) -> Iterator[str]:
    for number, rule in items(spec.get("rules")):
        for index, origin in items(rule.get("from")):
            source = mapping(origin.get("source"))
            place = f"spec.rules[{number}].from[{index}].source"
            yield from (f"{place}.{name}" for name in _TOKEN_FIELDS if source.get(name))
        for index, condition in items(rule.get("when")):
            if str(condition.get("key")).startswith("request.auth."):
                yield f"spec.rules[{number}].when[{index}].key"


def _unknown_namespaces(subject: Subject, policy: Document) -> Iterator[Problem]:
    """Nothing is reported if the files contain no Namespace objects."""
    known = {document.key.name for document in subject.of_kind("Namespace")}
    if not known:
        return
    known.update(document.key.namespace for document in subject.documents)
    for field, value in _namespaces(mapping(policy.content.get("spec"))):
        if "*" not in value and value not in known:
            sentence = f"there is no namespace {value} in these files; check the spelling"
            yield problem(policy, field, sentence, LintCode.NAMESPACE_UNKNOWN)


def _namespaces(spec: Content) -> Iterator[tuple[str, str]]:
    for number, rule in items(spec.get("rules")):
        place = f"spec.rules[{number}]"
        for index, origin in items(rule.get("from")):
            source = mapping(origin.get("source"))
            for name in ("namespaces", "notNamespaces"):
                yield from _texts(source.get(name), f"{place}.from[{index}].source.{name}")
        for index, condition in items(rule.get("when")):
            if condition.get("key") == "source.namespace":
                for name in ("values", "notValues"):
                    yield from _texts(condition.get(name), f"{place}.when[{index}].{name}")


def _texts(value: object, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        yield from ((f"{field}[{index}]", it) for index, it in enumerate(value) if isinstance(it, str))


def _selecting_nobody(subject: Subject, policy: Document) -> Iterator[Problem]:
    """A policy in the root namespace applies to all namespaces. Pods of waypoints are rarely in the files."""
    selector = mapping(mapping(mapping(policy.content.get("spec")).get("selector")).get("matchLabels"))
    wanted = {str(name): str(value) for name, value in selector.items()}
    if not wanted or GATEWAY_NAME in wanted:
        return
    own = policy.key.namespace
    namespaces = subject.workloads.namespaces() if own == ROOT_NAMESPACE else [own]
    found = [subject.workloads.are_selected(namespace, wanted) for namespace in namespaces]
    if found and all(it is False for it in found):
        told = ", ".join(f"{name}={value}" for name, value in wanted.items())
        where = "" if own == ROOT_NAMESPACE else f" of namespace {own}"
        sentence = f"no pod{where} has the labels {told}, so the policy protects nothing"
        yield problem(policy, "spec.selector", sentence, LintCode.NO_WORKLOAD_SELECTED)


# -- NetworkPolicy -------------------------------------------------------------------------------------------------


def _blocked_port(subject: Subject) -> Iterator[Problem]:
    """Report namespaces whose NetworkPolicies block tunnels.

    Policies are additive: a pod's port is blocked if policies select the pod and none of them allows the port. If no
    pods are known, any policy of the namespace that allows the port is assumed to apply to them.
    """
    policies: dict[str, list[Document]] = {}
    for policy in subject.of_kind("NetworkPolicy"):
        namespace = subject.namespace(policy.key.namespace)
        if namespace is not None and is_enrolled(namespace) and _is_for_ingress(policy):
            policies.setdefault(policy.key.namespace, []).append(policy)
    for name, closing in policies.items():
        selectors = {id(policy): _selector(policy) for policy in closing}
        pods = [template.labels for template in subject.workloads.of(name)]
        open_for = [selectors[id(policy)] for policy in closing if _lets_tunnels_in(policy)]
        for policy in closing:
            selector = selectors[id(policy)]
            if selector is None or _lets_tunnels_in(policy):
                continue
            closed = [
                pod for pod in pods if selector.selects(pod) and not any(it and it.selects(pod) for it in open_for)
            ]
            if closed or not (pods or open_for):
                sentence = (
                    f"blocks tunnels to its pods, which are in the mesh and need TCP {HBONE_PORT}; add an "
                    "ingress rule that allows this port"
                )
                yield problem(policy, "spec.ingress", sentence, LintCode.HBONE_PORT_BLOCKED)


def _is_for_ingress(policy: Document) -> bool:
    types = mapping(policy.content.get("spec")).get("policyTypes")
    return "Ingress" in types if isinstance(types, list) else True


def _selector(policy: Document) -> LabelSelector | None:
    try:
        return msgspec.convert(mapping(policy.content.get("spec")).get("podSelector", {}), LabelSelector)
    except msgspec.ValidationError:
        return None


def _lets_tunnels_in(policy: Document) -> bool:
    rules = items(mapping(policy.content.get("spec")).get("ingress"))
    return any(not rule.get("ports") or any(_covers(port) for _, port in items(rule["ports"])) for _, rule in rules)


def _covers(port: Content) -> bool:
    first = port.get("port")
    if port.get("protocol", "TCP") != "TCP" or isinstance(first, str):
        return False
    last = port.get("endPort", first)
    return first is None or (isinstance(first, int) and isinstance(last, int) and first <= HBONE_PORT <= last)
