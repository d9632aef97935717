"""What the four programs share: where they listen, the name they answer under, and how they stop.

They are configured by the environment alone. BIND_ADDRESS (default 0.0.0.0) and PORT (default 9080; `--port` wins) say
where to listen; SERVICE_VERSION (default v1) and POD_NAME (default: the machine's name) say who answers. On SIGTERM a
program stops accepting, finishes the requests under way, and exits with 0.

To try what a mesh does about it, a program can be bad: FAIL_EVERY=2 answers every second request with 503, 1 all of
them, and ANSWER_AFTER_SECONDS=0.5 takes its time.
"""

import argparse
import asyncio
import itertools
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from services.documents import Failure, Health

DEFAULT_PORT = 9080
STOP_SECONDS = 5
"""For requests under way; longer than the slowest call to another service takes."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy of a service."""

    service: str
    version: str
    pod: str


Build = Callable[[Instance], Awaitable[web.Application]]


def serve(service: str, build: Build, versions: Collection[str] = ()) -> None:
    """Run the program until SIGTERM or SIGINT; an environment that cannot be used is said in a sentence.

    `versions` are those that behave differently, when there are any; other services may be called any version.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    pod = os.environ.get("POD_NAME", socket.gethostname())
    instance = Instance(service, os.environ.get("SERVICE_VERSION", "v1"), pod)
    if versions and instance.version not in versions:
        sys.exit(f"SERVICE_VERSION is {instance.version!r}; {service} exists as {', '.join(versions)}")
    listening = _listen(service)
    logging.info("%s %s listens on %s port %d", service, instance.version, *listening.getsockname()[:2])
    web.run_app(
        _with_health(instance, build),
        sock=listening,
        shutdown_timeout=STOP_SECONDS,
        access_log_format='%a "%r" %s %b %Tfs',
        print=None,
    )


def json(document: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")


def not_found(request: web.Request) -> web.Response:
    return json(Failure(f"{request.path} is not known; the only book has the id 0"), status=404)


async def _with_health(instance: Instance, build: Build) -> web.Application:
    async def health(_: web.Request) -> web.Response:
        return json(Health(f"{instance.service} is healthy"))

    app = await build(instance)
    app.middlewares.append(_badly)
    app.router.add_get("/health", health)
    return app


_numbers = itertools.count(1)


@web.middleware
async def _badly(request: web.Request, handler: Handler) -> web.StreamResponse:
    """As badly as the environment asks for; whoever asks how we are gets the truth, which is that we run."""
    if request.path == "/health":
        return await handler(request)
    await asyncio.sleep(float(os.environ.get("ANSWER_AFTER_SECONDS", "0")))
    fail_every = int(os.environ.get("FAIL_EVERY", "0"))
    if fail_every and next(_numbers) % fail_every == 0:
        return json(Failure("FAIL_EVERY asks for this"), status=503)
    return await handler(request)


def _listen(service: str) -> socket.socket:
    parser = argparse.ArgumentParser(prog=service)
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or DEFAULT_PORT)
    port = parser.parse_args().port
    address = os.environ.get("BIND_ADDRESS", "0.0.0.0")  # noqa: S104 - the address of a pod is its own
    try:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        sys.exit(f"{service} cannot listen: {error.strerror}; change BIND_ADDRESS or PORT")
