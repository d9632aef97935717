"""Telemetry (telemetry.istio.io): metrics, access log and traces of this waypoint's services.

A waypoint obeys objects without a selector: of the root namespace, of its own, of a service's namespace, and those
whose targetRefs name it or a service, in this order. The more specific object wins: for metrics tag by tag, for the
access log and for traces field by field. Of several objects of one place, the oldest counts. A waypoint is a server.
What cannot be understood is told, and left out alone: without its filter, a log has a line of every request.
https://istio.io/latest/docs/reference/config/telemetry/
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from l4.config.documents import Problem
from l4.config.resources import Resource, Strict
from l4.discovery.objects import ROOT_NAMESPACE, Metadata
from l4.discovery.workload import Service
from policies.cel import Expression, InvalidExpression
from policies.telemetry import Collector, LogRule, MetricRule, SpanTag, TelemetryPolicy, TracingRule
from waypoint.config.codes import ConfigCode
from waypoint.config.istio.mesh_providers import PROMETHEUS, MeshProviders, why_no_metrics
from waypoint.config.istio.security_targets import EVERYTHING, SecurityTargets, TargetRef, TargetRefs
from waypoint.config.report import Report
from waypoint.telemetry.attributes import ATTRIBUTES
from waypoint.telemetry.log_format import parse
from waypoint.telemetry.log_operators import InvalidFormat
from waypoint.telemetry.record import ExchangeRecord

Mode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
_ALL = "ALL_METRICS"
METRIC_NAMES: Mapping[str, str] = {
    "REQUEST_COUNT": "istio_requests",
    "REQUEST_DURATION": "istio_request_duration_milliseconds",
    "REQUEST_SIZE": "istio_request_bytes",
    "RESPONSE_SIZE": "istio_response_bytes",
    "TCP_OPENED_CONNECTIONS": "istio_tcp_connections_opened",
    "TCP_CLOSED_CONNECTIONS": "istio_tcp_connections_closed",
    "TCP_SENT_BYTES": "istio_tcp_sent_bytes",
    "TCP_RECEIVED_BYTES": "istio_tcp_received_bytes",
    "GRPC_REQUEST_MESSAGES": "istio_request_messages",
    "GRPC_RESPONSE_MESSAGES": "istio_response_messages",
}
"""Istio's names of metrics, and ours, which omit `_total`."""


class ProviderRef(Struct, frozen=True):
    name: Name


class ModeMatch(Struct, frozen=True):
    mode: Mode = "CLIENT_AND_SERVER"


class MetricMatch(Struct, frozen=True, rename="camel"):
    metric: str = ""
    custom_metric: str = ""
    mode: Mode = "CLIENT_AND_SERVER"


class TagOverride(Struct, frozen=True):
    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str = ""


class MetricsOverride(Struct, frozen=True, rename="camel"):
    match: MetricMatch = MetricMatch()
    disabled: bool | None = None
    tag_overrides: dict[Annotated[str, Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*\Z")], TagOverride] = field(
        default_factory=dict
    )


class Metrics(Struct, frozen=True, rename="camel"):
    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverride, ...] = ()
    reporting_interval: str = ""


class Filter(Struct, frozen=True):
    expression: str = ""


class AccessLogging(Struct, frozen=True):
    match: ModeMatch = ModeMatch()
    providers: tuple[ProviderRef, ...] = ()
    disabled: bool = False
    filter: Filter | None = None


class Literally(Struct, frozen=True):
    value: str


class Named(Struct, frozen=True, rename="camel"):
    name: Name
    default_value: str = ""


class CustomTag(Struct, frozen=True):
    literal: Literally | None = None
    environment: Named | None = None
    header: Named | None = None
    formatter: Literally | None = None


class Tracing(Struct, frozen=True, rename="camel"):
    match: ModeMatch = ModeMatch()
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: Annotated[float, Meta(ge=0, le=100)] | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[Name, CustomTag] = field(default_factory=dict)
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None
    disable_context_propagation: bool | None = None


class TelemetrySpec(Struct, frozen=True, rename="camel"):
    selector: dict[str, Any] | None = None
    target_ref: TargetRef | None = None
    target_refs: TargetRefs = ()
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()

    @property
    def targets(self) -> tuple[TargetRef, ...]:
        return self.target_refs if self.target_ref is None else (*self.target_refs, self.target_ref)


class Telemetry(Strict, frozen=True):
    metadata: Metadata
    spec: TelemetrySpec = TelemetrySpec()


_Policy = TelemetryPolicy[ExchangeRecord]


class Telemetries:
    """The policies of a waypoint in the namespace `own`."""

    def __init__(
        self,
        resources: Iterable[Resource[Telemetry]],
        targets: SecurityTargets,
        own: str,
        providers: MeshProviders,
        variables: Container[str],
    ) -> None:
        """`variables` are the environment variables that tags of spans may show."""
        self._found: list[Problem] = []
        self._variables = variables
        self._providers = providers
        self._own = own
        self._namespaces: dict[str, Resource[Telemetry]] = {}
        self._targets: dict[str, Resource[Telemetry]] = {}
        self._made: dict[tuple[int, ...], _Policy | None] = {}
        self._reports: dict[int, Report] = {}
        for resource in sorted(resources, key=lambda it: (it.value.metadata.creation_timestamp, it.key.name)):
            self._add(resource, targets)

    @property
    def problems(self) -> list[Problem]:
        return [*self._found, *self._providers.problems]

    @property
    def collectors(self) -> frozenset[Collector]:
        """The collectors of all policies that were asked for."""
        rules = (it.tracing for it in self._made.values() if it is not None)
        return frozenset(it.collector for it in rules if it is not None and it.collector is not None)

    def of(self, service: Service | None) -> _Policy | None:
        """Return what applies to a service, or to a workload's own address."""
        namespaces = (ROOT_NAMESPACE, self._own, *((service.namespace,) if service is not None else ()))
        its = [self._namespaces.get(it) for it in dict.fromkeys(namespaces)]
        its.append(self._targets.get(EVERYTHING))
        if service is not None:
            its.append(self._targets.get(service.hostname))
        chosen = [it for it in its if it is not None]
        key = tuple(map(id, chosen))
        if key not in self._made:
            self._made[key] = self._compiled([it.value.spec for it in chosen])
        return self._made[key]

    def _add(self, resource: Resource[Telemetry], targets: SecurityTargets) -> None:
        report, spec, namespace = Report(resource), resource.value.spec, resource.key.namespace
        if spec.selector is not None:
            sentence = "selects pods, and no waypoint: name a waypoint or a Service in targetRefs"
            report.tell("spec.selector", sentence, ConfigCode.POLICY_NOT_TARGETED)
        elif spec.targets:
            for hostname in targets.of(resource, spec.targets, report):
                self._place(self._targets, hostname, resource, report)
        else:
            self._place(self._namespaces, namespace, resource, report)
        _Reading(spec, self._providers, self._variables, report).check()
        self._found += report.problems

    def _place(
        self, places: dict[str, Resource[Telemetry]], place: str, resource: Resource[Telemetry], report: Report
    ) -> None:
        first = places.setdefault(place, resource)
        if first is not resource:
            sentence = f"{first.key} is older and has the same target, so this object has no effect there"
            report.tell("spec", sentence, ConfigCode.POLICY_CONFLICTED)

    def _compiled(self, specs: list[TelemetrySpec]) -> _Policy | None:
        """Merge the objects, of which the last one is the most specific, with the mesh's default providers."""
        providers = self._providers
        metrics: dict[str, MetricRule[ExchangeRecord]] = {}
        names = providers.logs_by_default
        log: tuple[LogRule[ExchangeRecord], ...] | None = providers.default_log
        tracing: TracingRule[ExchangeRecord] | None = None
        if providers.trace_by_default is not None:
            tracing = TracingRule(collector=providers.trace_by_default)
        for reading in (_Reading(it, self._providers, self._variables) for it in specs):
            reading.override(metrics)
            log, names = reading.log(log, names)
            tracing = reading.tracing(tracing)
        policy: _Policy = TelemetryPolicy(metrics, log, tracing)
        return policy if policy != TelemetryPolicy() else None


class _Reading:
    """One object's `spec`. Problems are told if there is a report."""

    def __init__(
        self, spec: TelemetrySpec, providers: MeshProviders, variables: Container[str], report: Report | None = None
    ) -> None:
        self._spec = spec
        self._providers = providers
        self._variables = variables
        self._report = report

    def check(self) -> None:
        self.override({})
        self.log(None, ())
        self.tracing(None)

    def _tell(self, place: str, sentence: str) -> None:
        if self._report is not None:
            self._report.tell(place, sentence, ConfigCode.TELEMETRY_INVALID)

    # -- metrics ---------------------------------------------------------------------------------------------------

    def override(self, rules: dict[str, MetricRule[ExchangeRecord]]) -> None:
        """Add the overrides to those of less specific objects."""
        for number, metrics in enumerate(self._spec.metrics):
            place = f"spec.metrics[{number}]"
            if metrics.reporting_interval not in {"", "5s"}:
                self._tell(
                    f"{place}.reportingInterval", "is not used: bytes of connections are counted every 5 seconds"
                )
            names = [it.name for it in metrics.providers]
            for index, name in enumerate(names):
                if why := why_no_metrics(name):
                    self._tell(f"{place}.providers[{index}]", why)
            if names and PROMETHEUS not in names:
                continue
            for index, override in enumerate(metrics.overrides):
                if override.match.mode != "CLIENT":
                    self._override(override, f"{place}.overrides[{index}]", rules)

    def _override(self, override: MetricsOverride, place: str, rules: dict[str, MetricRule[ExchangeRecord]]) -> None:
        tags: dict[str, Expression[ExchangeRecord] | None] = {}
        for tag, it in override.tag_overrides.items():
            if it.operation == "REMOVE":
                tags[tag] = None
            elif (expression := self._expression(it.value, f"{place}.tagOverrides[{tag}].value")) is not None:
                tags[tag] = expression
        for name in self._metrics(override.match, f"{place}.match"):
            unchanged: MetricRule[ExchangeRecord] = MetricRule()
            before = rules.get(name, unchanged)
            is_disabled = before.is_disabled if override.disabled is None else override.disabled
            rules[name] = MetricRule(is_disabled, {**before.tags, **tags})

    def _metrics(self, match: MetricMatch, place: str) -> Iterator[str]:
        if match.custom_metric:
            name = match.custom_metric.removesuffix("_total")
            if name in METRIC_NAMES.values():
                yield name
            else:
                self._tell(f"{place}.customMetric", f"there is no metric {match.custom_metric!r}")
        elif match.metric in {"", _ALL}:
            yield from METRIC_NAMES.values()
        elif match.metric in METRIC_NAMES:
            yield METRIC_NAMES[match.metric]
        else:
            known = ", ".join((_ALL, *METRIC_NAMES))
            self._tell(f"{place}.metric", f"{match.metric!r} is not one of {known}")

    def _expression(self, text: str, place: str) -> Expression[ExchangeRecord] | None:
        try:
            return Expression.compile(text, ATTRIBUTES)
        except InvalidExpression as error:
            self._tell(place, f"cannot be used: {error}")
            return None

    # -- access log ------------------------------------------------------------------------------------------------

    def log(
        self, rules: tuple[LogRule[ExchangeRecord], ...] | None, names: tuple[str, ...]
    ) -> tuple[tuple[LogRule[ExchangeRecord], ...] | None, tuple[str, ...]]:
        """Return the log's rules and providers; the arguments are those of less specific objects."""
        entries = [
            (f"spec.accessLogging[{number}]", it)
            for number, it in enumerate(self._spec.access_logging)
            if it.match.mode != "CLIENT"
        ]
        if not entries:
            return rules, names
        written: list[LogRule[ExchangeRecord]] = []
        for place, it in entries:
            names = tuple(provider.name for provider in it.providers) or names
            condition = None
            if it.filter is not None and it.filter.expression:
                condition = self._expression(it.filter.expression, f"{place}.filter.expression")
            for index, name in enumerate(names):
                if name in self._providers.logs:
                    if not it.disabled:
                        written.append(LogRule(self._providers.logs[name], condition))
                else:
                    self._tell(f"{place}.providers[{index}]", self._providers.why_no_log(name))
        return tuple(written), names

    # -- traces ----------------------------------------------------------------------------------------------------

    def tracing(self, rule: TracingRule[ExchangeRecord] | None) -> TracingRule[ExchangeRecord] | None:
        """Return the rule for traces; the argument is that of less specific objects."""
        for number, it in enumerate(self._spec.tracing):
            if it.match.mode == "CLIENT":
                continue
            place = f"spec.tracing[{number}]"
            rule = TracingRule() if rule is None else rule
            collector = rule.collector
            for index, provider in enumerate(it.providers):
                if index:
                    self._tell(f"{place}.providers[{index}]", "gets no spans: they go to the first one")
                    break
                if why := self._providers.why_no_spans(provider.name):
                    self._tell(f"{place}.providers[{index}]", why)
                if provider.name in self._providers.traces:
                    collector = self._providers.traces[provider.name]
            if it.use_request_id_for_trace_sampling:
                sentence = "is not done: who calls decides by the trace's context, and chance if there is none"
                self._tell(f"{place}.useRequestIdForTraceSampling", sentence)
            share = it.random_sampling_percentage
            tags = tuple(self._tags(it.custom_tags, f"{place}.customTags"))
            rule = TracingRule(
                share=rule.share if share is None else share / 100,
                collector=collector,
                is_reported=_unless(it.disable_span_reporting, rule.is_reported),
                is_propagated=_unless(it.disable_context_propagation, rule.is_propagated),
                has_istio_tags=rule.has_istio_tags if it.enable_istio_tags is None else it.enable_istio_tags,
                tags=tuple({tag.name: tag for tag in (*rule.tags, *tags)}.values()),
            )
        return rule

    def _tags(self, tags: Mapping[str, CustomTag], place: str) -> Iterator[SpanTag[ExchangeRecord]]:
        for name, it in tags.items():
            if it.literal is not None:
                yield SpanTag(name, default=it.literal.value)
            elif it.header is not None:
                yield SpanTag(name, header=it.header.name.lower().encode(), default=it.header.default_value)
            elif it.formatter is not None:
                try:
                    yield SpanTag(name, format=parse(it.formatter.value))
                except InvalidFormat as error:
                    self._tell(f"{place}[{name}].formatter", f"cannot be used: {error}")
            elif it.environment is not None:
                variable, default = it.environment.name, it.environment.default_value
                if variable in self._variables:
                    yield SpanTag(name, variable=variable, default=default)
                    continue
                sentence = (
                    f"{variable} is not read, because variables hold secrets: spans get the default. The waypoint's "
                    "setting SPAN_TAG_VARIABLES allows it"
                )
                self._tell(f"{place}[{name}].environment", sentence)
                yield SpanTag(name, default=default)


def _unless(disabled: bool | None, before: bool) -> bool:
    return before if disabled is None else not disabled
