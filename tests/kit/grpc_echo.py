"""A gRPC service on the real grpcio with all four kinds of call, without generated code: messages are bytes."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

SERVICE = "echo.Echo"


@dataclass
class Seen:
    """The metadata, remaining seconds and number of cancellations that the service received."""

    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    seconds_left: list[float] = field(default_factory=list)
    cancelled: int = 0


@contextmanager
def echo_server(ip: str, port: int = 9080, *, takes: Callable[[bytes], float] = lambda message: 0) -> Iterator[Seen]:
    """`Unary` echoes; `Collect` joins; `Repeat` sends b"n" back n times; `Chat` echoes each as it comes; `Fail` aborts
    with NOT_FOUND, `Flaky` every other time with UNAVAILABLE; `Hang` sends one message and waits until it is cancelled.
    `takes` says how many seconds `Unary` waits before it echoes a message.
    """
    seen = Seen()

    def note(context: grpc.ServicerContext) -> None:
        seen.metadata.append(dict(context.invocation_metadata()))
        if (left := context.time_remaining()) is not None:
            seen.seconds_left.append(left)

    def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
        note(context)
        time.sleep(takes(request))
        context.set_trailing_metadata((("x-trailer", "at the end"),))
        return request

    def collect(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        note(context)
        return b",".join(requests)

    def repeat(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        note(context)
        for _ in range(int(request)):
            yield request

    def chat(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        note(context)
        yield from requests

    def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100 %")
        return b""

    def flaky(request: bytes, context: grpc.ServicerContext) -> bytes:
        note(context)
        if len(seen.metadata) % 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return request

    def hang(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        def ended() -> None:
            seen.cancelled += 1

        context.add_callback(ended)  # a call that is cancelled at once is never resumed after its message
        yield b"first"
        while context.is_active():
            time.sleep(0.01)

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Repeat": grpc.unary_stream_rpc_method_handler(repeat),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Flaky": grpc.unary_unary_rpc_method_handler(flaky),
        "Hang": grpc.unary_stream_rpc_method_handler(hang),
    }
    server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    assert server.add_insecure_port(f"{ip}:{port}")
    server.start()
    try:
        yield seen
    finally:
        server.stop(None).wait()
