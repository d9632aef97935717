"""Export spans by OTLP over gRPC. The SDK's thread calls it, with batches from its bounded queue."""

import logging
from collections.abc import Sequence

import grpc
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from waypoint.telemetry.tracing_settings import TracingSettings

log = logging.getLogger(__name__)


class GrpcExporter(SpanExporter):
    def __init__(self, settings: TracingSettings) -> None:
        scheme, _, rest = settings.endpoint.rpartition("://")
        target = rest.partition("/")[0]
        self._settings = settings
        if scheme == "https":
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(settings.certificate))
        else:
            self._channel = grpc.insecure_channel(target)
        self._stub = TraceServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = tuple((name.lower(), value) for name, value in settings.headers.items())

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        settings = self._settings
        try:
            self._stub.Export(encode_spans(spans), timeout=settings.timeout_seconds, metadata=self._metadata)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile
            code = error.code().name if isinstance(error, grpc.Call) else str(error)
            log.warning("%d spans are lost: the collector at %s answered %s", len(spans), settings.endpoint, code)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._channel.close()
