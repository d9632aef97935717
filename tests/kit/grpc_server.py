"""A real gRPC server with one method, in threads of its own."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message


@contextmanager
def grpc_server(
    address: str,
    method: str,
    handler: Callable[[Any, Any], Message],
    request: type[Message],
    stop: threading.Event,
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[None]:
    """`method` is SERVICE/METHOD. `stop` is set before the server ends, and a slow `handler` should wait for it."""
    service, _, name = method.rpartition("/")
    server = grpc.server(ThreadPoolExecutor(8))
    called = grpc.unary_unary_rpc_method_handler(
        handler, request.FromString, lambda message: message.SerializeToString()
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: called}),))
    if credentials is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, credentials)
    server.start()
    try:
        yield
    finally:
        stop.set()
        server.stop(None).wait()
