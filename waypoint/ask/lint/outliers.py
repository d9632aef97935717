"""Outlier detection that can never eject an endpoint.

Envoy compares the share including the new ejection with `maxEjectionPercent`, by default 10 %: with fewer than ten
endpoints, none is ever ejected.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from l4.config.documents import Document, Problem
from l4.discovery.objects import ServiceObject
from l4.discovery.workload import Service
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.subject import Subject, items, mapping, problem

_DEFAULT_PERCENT = 10


def lint(subject: Subject) -> Iterator[Problem]:
    selectors = {(it.key.namespace, it.key.name): it.value.spec.selector for it in subject.resources.of(ServiceObject)}
    for rule in subject.of_kind("DestinationRule"):
        host = str(mapping(rule.content.get("spec")).get("host", ""))
        service = subject.service_of(rule.key.namespace, host)
        if service is None:
            continue
        count = subject.workloads.endpoints(service, selectors.get((service.namespace, service.name), {}))
        if count:
            yield from _ejecting_nobody(rule, service, count)


def _ejecting_nobody(rule: Document, service: Service, count: int) -> Iterator[Problem]:
    for place, policy in _policies(rule):
        detection = policy.get("outlierDetection")
        if not isinstance(detection, dict):
            continue
        percent = detection.get("maxEjectionPercent") or _DEFAULT_PERCENT  # 0 means "not set", as in Istio
        if isinstance(percent, int) and 0 < percent * count < 100:
            given = "" if detection.get("maxEjectionPercent") else ", the default,"
            sentence = (
                f"never ejects an endpoint: {percent} %{given} of the {count} endpoints of {service.namespace}/"
                f"{service.name} is less than one; set maxEjectionPercent to {-(-100 // count)} or more"
            )
            yield problem(rule, f"{place}.outlierDetection", sentence, LintCode.EJECTS_NOBODY)


def _policies(rule: Document) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield all traffic policies. A subset is no larger than its service, so the same conclusion applies."""
    spec = mapping(rule.content.get("spec"))
    owners = [("spec", spec), *((f"spec.subsets[{index}]", it) for index, it in items(spec.get("subsets")))]
    for place, owner in owners:
        policy = mapping(owner.get("trafficPolicy"))
        yield f"{place}.trafficPolicy", policy
        for index, of_port in items(policy.get("portLevelSettings")):
            yield f"{place}.trafficPolicy.portLevelSettings[{index}]", of_port
