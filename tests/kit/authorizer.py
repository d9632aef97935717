"""An authorization service of the real grpcio, which says what it is told to say."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from waypoint._proto.external_auth_pb2 import CheckRequest, CheckResponse


def allow(request: CheckRequest) -> CheckResponse:
    return CheckResponse()


@dataclass
class GrpcAuthorizer:
    """`delay_seconds` makes it slow; an `answer` that raises makes it fail."""

    answer: Callable[[CheckRequest], CheckResponse]
    delay_seconds: float = 0.0
    requests: list[CheckRequest] = field(default_factory=list)
    is_stopping: threading.Event = field(default_factory=threading.Event)

    def check(self, request: CheckRequest, context: object) -> CheckResponse:
        self.requests.append(request)
        self.is_stopping.wait(self.delay_seconds)
        return self.answer(request)


@contextmanager
def grpc_authorizer(
    ip: str, answer: Callable[[CheckRequest], CheckResponse] = allow, port: int = 9000
) -> Iterator[GrpcAuthorizer]:
    it = GrpcAuthorizer(answer)
    server = grpc.server(ThreadPoolExecutor(8))
    method = grpc.unary_unary_rpc_method_handler(it.check, CheckRequest.FromString, CheckResponse.SerializeToString)
    service = "envoy.service.auth.v3.Authorization"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Check": method}),))
    server.add_insecure_port(f"{ip}:{port}")
    server.start()
    try:
        yield it
    finally:
        it.is_stopping.set()
        server.stop(None).wait()
