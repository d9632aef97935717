"""Tracing configuration from OpenTelemetry's standard environment variables, parsed without loading the SDK.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
The SDK reads its own tuning (`OTEL_BSP_*`, `OTEL_EXPORTER_OTLP_TIMEOUT`, certificates) from the environment itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

from waypoint.telemetry.trace_context import TraceParent

_TRACES_PATH = "/v1/traces"


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

    def is_sampled(self, parent: TraceParent | None, trace_id: int) -> bool:
        if parent is not None and self.follows_parent:
            return parent.is_sampled
        # TraceIdRatioBased of the specification: every hop with the same ratio keeps the same traces.
        return trace_id & (2**64 - 1) < self.ratio * 2**64


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
    """`headers` may contain the collector's token."""

    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    resource: Mapping[str, str]
    sampler: Sampler

    @classmethod
    def parse(cls, environment: Mapping[str, str], service_name: str) -> Self | None:
        """Parse the environment. Returns None without an OTLP endpoint, or if tracing is disabled. Raises
        InvalidTracing."""
        endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
        if not endpoint and (base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
            endpoint = base.rstrip("/") + _TRACES_PATH
        is_off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        if not endpoint or is_off or environment.get("OTEL_TRACES_EXPORTER") == "none":
            return None
        headers = environment.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environment.get("OTEL_EXPORTER_OTLP_HEADERS")
        resource = {"service.name": service_name} | _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        if name := environment.get("OTEL_SERVICE_NAME"):
            resource["service.name"] = name
        sampler = Sampler.parse(
            environment.get("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
            environment.get("OTEL_TRACES_SAMPLER_ARG", ""),
        )
        return cls(endpoint, _pairs(headers or ""), resource, sampler)


def _pairs(text: str) -> dict[str, str]:
    pairs = (member.partition("=") for member in text.split(",") if "=" in member)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}
