"""An authorization service on the real grpcio, which gives the answers that a test sets."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.kit.grpc_server import grpc_server
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
    method = "envoy.service.auth.v3.Authorization/Check"
    with grpc_server(f"{ip}:{port}", method, it.check, CheckRequest, it.is_stopping):
        yield it
