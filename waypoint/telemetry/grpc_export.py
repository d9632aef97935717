"""Send spans by OTLP over gRPC. The SDK's thread calls it, with batches from its bounded queue."""

import logging

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from waypoint.telemetry.tracing_settings import TracingSettings

log = logging.getLogger(__name__)

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class GrpcTransport:
    def __init__(self, settings: TracingSettings) -> None:
        scheme, _, rest = settings.endpoint.rpartition("://")
        target = rest.partition("/")[0]
        self._settings = settings
        if scheme == "https":
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(settings.certificate))
        else:
            self._channel = grpc.insecure_channel(target)
        self._call = self._channel.unary_unary(_EXPORT, response_deserializer=ExportTraceServiceResponse.FromString)
        self._metadata = tuple((name.lower(), value) for name, value in settings.headers.items())

    def send(self, request: bytes, count: int) -> bool:
        settings = self._settings
        try:
            self._call(request, timeout=settings.timeout_seconds, metadata=self._metadata)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile
            code = error.code().name if isinstance(error, grpc.Call) else str(error)
            log.warning("%d spans are lost: the collector at %s answered %s", count, settings.endpoint, code)
            return False
        return True

    def shutdown(self) -> None:
        self._channel.close()
