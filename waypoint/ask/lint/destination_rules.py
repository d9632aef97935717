"""DestinationRules without effect: an unknown host, or a subset without pods."""

from collections.abc import Iterator

from l4.config.documents import Problem
from l4.config.resources import Resource
from l4.discovery.objects import ServiceObject
from l4.discovery.workload import Service
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.subject import Subject
from waypoint.config.codes import ConfigCode
from waypoint.config.istio.destination_rule import DestinationRule


def lint(subject: Subject) -> Iterator[Problem]:
    selectors = {(it.key.namespace, it.key.name): it.value.spec.selector for it in subject.resources.of(ServiceObject)}
    for rule in subject.resources.of(DestinationRule):
        host, namespace = rule.value.spec.host, rule.key.namespace
        if host.startswith("*"):
            continue
        service = subject.service_of(namespace, host)
        if service is not None:
            selector = selectors.get((service.namespace, service.name), {})
            yield from _subsets(subject, rule, service, selector)
            continue
        registry = subject.registry
        why = registry.why_no_host(host) if "." in host else registry.why_no_service(namespace, host)
        sentence = f"{why}; the rule has no effect"
        yield Problem(rule.origin, str(rule.key), "spec.host", sentence, ConfigCode.TARGET_NOT_FOUND)


def _subsets(
    subject: Subject, rule: Resource[DestinationRule], service: Service, selector: dict[str, str]
) -> Iterator[Problem]:
    """Nothing is reported for a service without a selector, or if its pods or their labels are unknown."""
    members = [endpoint.workload for endpoint in service.endpoints] + [name.workload for name in service.names]
    for index, subset in enumerate(rule.value.spec.subsets):
        wanted = subset.labels.items()
        if members:
            is_empty = all(it.has_all_labels and not wanted <= it.labels.items() for it in members)
        else:
            is_empty = (
                bool(selector)
                and subject.workloads.are_selected(service.namespace, {**selector, **subset.labels}) is False
            )
        if is_empty:
            labels = ", ".join(f"{name}={value}" for name, value in wanted)
            sentence = f"no endpoint of {service.hostname} has the labels {labels}; requests to this subset get 503"
            field = f"spec.subsets[{index}].labels"
            yield Problem(rule.origin, str(rule.key), field, sentence, LintCode.SUBSET_SELECTS_NOTHING)
