"""MeshConfig's providers of access logs and traces, which Telemetry objects name.

A log goes to the file of `--access-log`, whatever the provider's `path` is: only its format counts. Spans go to the
collector of an `opentelemetry` provider, over plain TCP. For providers of other kinds, they go to the collector that
the process's environment names (`waypoint.telemetry.tracing_settings`), and whoever names such a provider is told so.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from l4.config.documents import Problem
from l4.config.durations import GoDuration, seconds_of
from l4.config.resources import Resource
from policies.telemetry import Collector, LogRule
from waypoint.config.codes import ConfigCode
from waypoint.config.istio.mesh_config import ConfigMap, mesh_config
from waypoint.config.report import Report
from waypoint.telemetry.log_format import ISTIO_JSON, LogFormat
from waypoint.telemetry.log_operators import InvalidFormat
from waypoint.telemetry.record import ExchangeRecord

ENVOY = "envoy"
"""The provider of logs that every mesh has."""
PROMETHEUS = "prometheus"
"""The only provider of metrics."""
_TRACES = ("zipkin", "datadog", "skywalking", "lightstep", "opencensus", "stackdriver")
_STDOUT = ("/dev/stdout", "/dev/stderr", "")


class _HttpHeader(Struct, frozen=True):
    name: str
    value: str = ""


class _Http(Struct, frozen=True):
    path: str = ""
    timeout: GoDuration | None = None
    headers: tuple[_HttpHeader, ...] = ()


class _OpenTelemetry(Struct, frozen=True):
    """`service` is a hostname, optionally prefixed by its namespace. Without `http`, the protocol is gRPC."""

    service: Annotated[str, Meta(min_length=1, max_length=320)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    http: _Http | None = None


class MeshProviders:
    """By the provider's name, `logs` are formats and `traces` collectors; None is the program's own one. `kinds` are
    the fields of MeshConfig that declare them, such as `zipkin`. The default providers count for objects that name
    none, and where there is no object."""

    def __init__(self, config_maps: Iterable[Resource[ConfigMap]]) -> None:
        self.problems: list[Problem] = []
        self.logs: dict[str, LogFormat | None] = {ENVOY: None}
        self.logs_by_default: tuple[str, ...] = (ENVOY,)
        self.traces: dict[str, Collector | None] = {}
        self.trace_by_default: Collector | None = None
        self.kinds: dict[str, str] = {}
        for resource in config_maps:
            found = mesh_config(resource)
            if found is not None:
                place, config = found
                self._report = Report(resource)
                self._read(config, place)
                self.problems += self._report.problems

    def _read(self, config: Mapping[str, Any], place: str) -> None:
        text, is_json = config.get("accessLogFormat"), config.get("accessLogEncoding") in {"JSON", 1}
        if (isinstance(text, str) and text) or is_json:
            self.logs[ENVOY] = self._format(
                {"labels": _json(text) or ISTIO_JSON} if is_json else {"text": text}, f"{place}.accessLogFormat"
            )
        providers = config.get("extensionProviders")
        for number, it in enumerate(providers if isinstance(providers, list) else ()):
            if not isinstance(it, Mapping) or not isinstance(it.get("name"), str):
                continue
            self.kinds[it["name"]] = next((str(kind) for kind in it if kind != "name"), "")
            file, where = it.get("envoyFileAccessLog"), f"{place}.extensionProviders[{number}]"
            if isinstance(file, Mapping):
                self._file(it["name"], file, f"{where}.envoyFileAccessLog")
            if "opentelemetry" in it:
                self._collector(it["name"], it["opentelemetry"], f"{where}.opentelemetry")
            elif any(kind in it for kind in _TRACES):
                self.traces[it["name"]] = None
        self._default(config.get("defaultProviders"), f"{place}.defaultProviders")

    def _default(self, named: object, place: str) -> None:
        if not isinstance(named, Mapping):
            return
        logs, traces, metrics = (
            tuple(map(str, its)) if isinstance(its := named.get(field), list) else ()
            for field in ("accessLogging", "tracing", "metrics")
        )
        self.logs_by_default = logs or self.logs_by_default
        for number, name in enumerate(logs):
            if why := self.why_no_log(name):
                self._tell(f"{place}.accessLogging[{number}]", why)
        for number, name in enumerate(traces[:1]):
            self.trace_by_default = self.traces.get(name)
            if why := self.why_no_spans(name):
                self._tell(f"{place}.tracing[{number}]", why)
        for number, name in enumerate(metrics):
            if why := why_no_metrics(name):
                self._tell(f"{place}.metrics[{number}]", why)

    @property
    def default_log(self) -> tuple[LogRule[ExchangeRecord], ...] | None:
        """The log of a service that no object configures. None is the program's own one, also if no default provider
        can be used: a log must not end because its provider is of the wrong kind."""
        formats = [self.logs[it] for it in self.logs_by_default if it in self.logs]
        return tuple(map(LogRule, formats)) if any(formats) else None

    def why_no_log(self, name: str) -> str:
        """Return why a provider writes no log; empty if it does."""
        if name in self.logs:
            return ""
        if name not in self.kinds:
            return f"the mesh has no provider {name!r}"
        return (
            f"{self._of_kind(name)}: a waypoint sends its access log nowhere, it writes to the file of --access-log. "
            f"Name {ENVOY}, or a provider of kind envoyFileAccessLog"
        )

    def why_no_spans(self, name: str) -> str:
        """Return why a provider gets no spans; empty if it does."""
        if name not in self.kinds:
            return f"the mesh has no provider {name!r}"
        if name not in self.traces:
            return f"{self._of_kind(name)}, which takes no spans: name a provider of kind opentelemetry"
        if self.kinds[name] in _TRACES:
            return (
                f"{self._of_kind(name)}: a waypoint sends spans as OTLP alone, so they go to the collector of "
                "OTEL_EXPORTER_OTLP_ENDPOINT if it is set, else nowhere. Name a provider of kind opentelemetry"
            )
        return ""

    def _of_kind(self, name: str) -> str:
        return f"{name!r} is of kind {self.kinds[name][:64]}"

    def _collector(self, name: str, content: object, place: str) -> None:
        self.traces[name] = None
        try:
            its = msgspec.convert(content, _OpenTelemetry)
        except msgspec.ValidationError as error:
            self._tell(place, f"is invalid, and spans go to the program's own collector: {error}")
            return
        address = f"http://{its.service.rpartition('/')[2]}:{its.port}"
        if its.http is None:
            self.traces[name] = Collector(address)
            return
        headers = tuple((it.name, it.value) for it in its.http.headers)
        path = its.http.path or "/v1/traces"
        seconds = seconds_of(its.http.timeout) or 10.0
        self.traces[name] = Collector(f"{address}/{path.lstrip('/')}", False, headers, seconds)

    def _file(self, name: str, file: Mapping[str, Any], place: str) -> None:
        path = file.get("path", "")
        if path not in _STDOUT:
            sentence = f"{path!r} is not opened: lines of this provider go to the file of --access-log"
            self._tell(f"{place}.path", sentence)
        written = file.get("logFormat")
        self.logs[name] = self._format(
            written if isinstance(written, Mapping) else {},
            f"{place}.logFormat",
            omits=file.get("omitEmptyValues") is True,
        )

    def _format(self, written: Mapping[str, Any], place: str, *, omits: bool = False) -> LogFormat | None:
        """Return the format; the program's own one, which is None, if it cannot be understood."""
        text, labels = written.get("text"), written.get("labels")
        try:
            if isinstance(labels, Mapping):
                return LogFormat.of_labels({str(name): it for name, it in labels.items()}, omits_empty=omits)
            return LogFormat.of_text(text) if isinstance(text, str) and text else None
        except InvalidFormat as error:
            self._tell(place, f"cannot be used, and lines have the program's own format: {error}")
            return None

    def _tell(self, place: str, sentence: str) -> None:
        self._report.tell(place, sentence, ConfigCode.TELEMETRY_INVALID)


def why_no_metrics(name: str) -> str:
    """Return why a provider gets no metrics; empty if it does."""
    return "" if name == PROMETHEUS else f"{name!r} gets no metrics: a waypoint knows only {PROMETHEUS}"


def _json(text: object) -> Mapping[str, Any] | None:
    """Return the fields of MeshConfig's format, which is JSON in a text."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if isinstance(found, Mapping) else None
