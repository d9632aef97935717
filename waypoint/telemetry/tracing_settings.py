"""Tracing configuration from OpenTelemetry's standard environment variables, parsed without loading the SDK.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
The SDK reads its own tuning (`OTEL_BSP_*`) from the environment itself.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from l4.config.settings import InvalidSetting, Section
from policies.telemetry import MAX_TAG_VALUE, Collector
from waypoint.telemetry.trace_context import TraceParent
from waypoint.telemetry.trace_headers import Style

_TRACES_PATH = "/v1/traces"
_PROTOCOLS = ("http/protobuf", "grpc")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}").fullmatch
_MOST_VARIABLES = 64


@dataclass(frozen=True, slots=True)
class SpanTagSettings(Section):
    title = "Traces"

    span_tag_variables: str = "POD_NAME,POD_NAMESPACE,SERVICE_ACCOUNT,NODE_NAME,HOST_IP,INSTANCE_IP"
    """Environment variables of the waypoint, separated by commas, that Telemetry objects may read as tags of spans
    (`customTags.environment`). No others, because variables hold secrets, too. At most 64."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(filter(None, (it.strip() for it in self.span_tag_variables.split(","))))

    def check(self) -> None:
        for it in sorted(self.names):
            if not _VARIABLE(it):
                raise InvalidSetting(f"SPAN_TAG_VARIABLES: {it!r} is not the name of an environment variable")
        if len(self.names) > _MOST_VARIABLES:
            raise InvalidSetting(f"SPAN_TAG_VARIABLES has {len(self.names)} names; at most {_MOST_VARIABLES} can be")


class InvalidTracing(ValueError):
    """A tracing variable is invalid. The message names it."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """The share of traces to keep, and whether a caller's decision takes precedence."""

    ratio: float
    follows_parent: bool

    @classmethod
    def parse(cls, name: str, argument: str) -> Self:
        """Parse OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. Raises InvalidTracing."""
        kind = name.removeprefix("parentbased_")
        ratios = {"always_on": 1.0, "always_off": 0.0, "traceidratio": _ratio(argument)}
        if kind not in ratios:
            raise InvalidTracing(f"OTEL_TRACES_SAMPLER={name!r} is not one of [parentbased_]{{{','.join(ratios)}}}")
        return cls(ratios[kind], follows_parent=kind != name)

    def is_sampled(self, parent: TraceParent | None, trace_id: int, ratio: float | None = None) -> bool:
        """`ratio` replaces the sampler's."""
        if parent is not None and parent.is_decided and self.follows_parent:
            return parent.is_sampled
        # TraceIdRatioBased of the specification: every hop with the same ratio keeps the same traces.
        return trace_id & (2**64 - 1) < int((self.ratio if ratio is None else ratio) * 2**64)


def _ratio(argument: str) -> float:
    try:
        ratio = float(argument or "1")
    except ValueError:
        ratio = -1
    if not 0 <= ratio <= 1:
        raise InvalidTracing(f"OTEL_TRACES_SAMPLER_ARG={argument!r} is not a number between 0 and 1")
    return ratio


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """`headers` may contain the collector's token. `tags` are those of every request's span. `variables` are those of
    the environment that Telemetry objects may read."""

    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    resource: Mapping[str, str]
    sampler: Sampler
    tags: Mapping[str, str] = field(default_factory=dict)
    propagators: tuple[Style, ...] = ()
    """Those of OTEL_PROPAGATORS. Without the variable, all are read, and what came is written."""
    is_grpc: bool = False
    timeout_seconds: float = 10.0
    certificate: bytes | None = None
    """The trusted roots, in PEM. None: the system's."""
    client_chain: str = ""
    client_key: str = ""
    """Files of the certificate that HTTPS collectors ask for, and of its key."""
    is_compressed: bool = False
    """Whether requests over HTTP are compressed with gzip."""
    queue: tuple[int, int] = 2048, 512
    """Number of spans that may wait for an export, where more are dropped; and that are in one export."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def at(self, collector: Collector) -> "TracingSettings":
        """Return the same settings for another collector."""
        return replace(
            self,
            endpoint=collector.endpoint,
            headers=dict(collector.headers),
            is_grpc=collector.is_grpc,
            timeout_seconds=collector.timeout_seconds,
            certificate=None,
            client_chain="",
            client_key="",
            is_compressed=False,
        )

    @classmethod
    def parse(
        cls,
        environment: Mapping[str, str],
        service_name: str,
        tags: Mapping[str, str] | None = None,
        readable: Iterable[str] = (),
    ) -> Self | None:
        """Parse the environment. Returns None without an OTLP endpoint, or if tracing is disabled. `readable` are the
        names of `variables`. Raises InvalidTracing."""
        is_grpc = _is_grpc(_of_traces(environment, "PROTOCOL"))
        endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
        if not endpoint and (base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
            endpoint = base if is_grpc else base.rstrip("/") + _TRACES_PATH
        if not endpoint or _is_off(environment):
            return None
        return cls(
            endpoint,
            _pairs(_of_traces(environment, "HEADERS")),
            _resource(environment, service_name),
            _sampler(environment, "parentbased_always_on", ""),
            tags or {},
            _propagators(environment.get("OTEL_PROPAGATORS", "")),
            is_grpc,
            _seconds(_of_traces(environment, "TIMEOUT")),
            _roots(_of_traces(environment, "CERTIFICATE")),
            _of_traces(environment, "CLIENT_CERTIFICATE"),
            _of_traces(environment, "CLIENT_KEY"),
            _is_compressed(_of_traces(environment, "COMPRESSION")),
            _queue(environment),
            _variables(environment, readable),
        )

    @classmethod
    def of_collectors(
        cls, environment: Mapping[str, str], service_name: str, tags: Mapping[str, str], readable: Iterable[str] = ()
    ) -> "TracingSettings | None":
        """Return the settings for collectors that Telemetry objects name, with Istio's share of 1 % by default. None if
        tracing is disabled. Raises InvalidTracing."""
        if _is_off(environment):
            return None
        sampler = _sampler(environment, "parentbased_traceidratio", "0.01")
        propagators = _propagators(environment.get("OTEL_PROPAGATORS", ""))
        resource = _resource(environment, service_name)
        variables = _variables(environment, readable)
        return cls("", {}, resource, sampler, tags, propagators, queue=_queue(environment), variables=variables)


def _variables(environment: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: environment[name][:MAX_TAG_VALUE] for name in names if environment.get(name)}


def _is_off(environment: Mapping[str, str]) -> bool:
    return (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )


def _resource(environment: Mapping[str, str], service_name: str) -> dict[str, str]:
    resource = {"service.name": service_name} | _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if name := environment.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = name
    return resource


def _sampler(environment: Mapping[str, str], name: str, argument: str) -> Sampler:
    """`name` and `argument` are the defaults."""
    if chosen := environment.get("OTEL_TRACES_SAMPLER"):
        name, argument = chosen, ""
    return Sampler.parse(name, environment.get("OTEL_TRACES_SAMPLER_ARG", argument))


def _of_traces(environment: Mapping[str, str], name: str) -> str:
    """Return the exporter's variable for traces, or else for everything."""
    return environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environment.get(f"OTEL_EXPORTER_OTLP_{name}", "")


def _is_grpc(protocol: str) -> bool:
    if protocol not in {"", *_PROTOCOLS}:
        raise InvalidTracing(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r} is not one of {', '.join(_PROTOCOLS)}")
    return protocol == "grpc"


def _is_compressed(text: str) -> bool:
    if text not in {"", "none", "gzip"}:
        raise InvalidTracing(f"OTEL_EXPORTER_OTLP_COMPRESSION={text!r} is neither gzip nor none")
    return text == "gzip"


def _propagators(text: str) -> tuple[Style, ...]:
    names = [name for it in text.split(",") if (name := it.strip())]
    known = [*Style, "baggage", "none"]
    for name in names:
        if name not in known:
            raise InvalidTracing(f"OTEL_PROPAGATORS: {name!r} is not one of {', '.join(known)}")
    return tuple(Style(name) for name in dict.fromkeys(names) if name in set(Style))


def _seconds(text: str) -> float:
    try:
        seconds = float(text or "10")
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise InvalidTracing(f"OTEL_EXPORTER_OTLP_TIMEOUT={text!r} is not a number of seconds above 0")
    return seconds


def _queue(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return the limits of the queue and of a batch."""
    size = _count(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    return size, min(size, _count(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512))


def _count(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 2**31):
        raise InvalidTracing(f"{name}={text!r} is not a whole number above 0")
    return int(text)


def _roots(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise InvalidTracing(f"OTEL_EXPORTER_OTLP_CERTIFICATE={path!r} cannot be read: {error.strerror}") from None


def _pairs(text: str) -> dict[str, str]:
    pairs = (member.partition("=") for member in text.split(",") if "=" in member)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}
