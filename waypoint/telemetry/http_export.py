"""Send spans by OTLP over HTTP. The SDK's thread calls it, with batches from its bounded queue.

The SDK's own exporter does the same with `requests`, which takes 5 MiB. Proxies are those of the environment
(`HTTP_PROXY`). https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import gzip
import logging
import math
import threading
import time
from http.client import HTTPException
from random import uniform
from ssl import SSLContext
from urllib.error import HTTPError
from urllib.request import (
    BaseHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from l4.outside_tls import client_context
from waypoint.telemetry.tracing_settings import InvalidTracing, TracingSettings

log = logging.getLogger(__name__)

_PASSING = frozenset({429, 502, 503, 504})
"""Statuses after which the specification lets a client try again."""
_PAUSES_SECONDS = 1.0, 2.0, 4.0, 8.0, 16.0
_PAUSE_SHARES = 0.8, 1.2


class HttpTransport:
    """A batch is sent again after a failure that may pass, within the time limit of an export."""

    def __init__(self, settings: TracingSettings) -> None:
        """Raises InvalidTracing."""
        self._settings = settings
        self._headers = {"content-type": "application/x-protobuf", **settings.headers}
        if settings.is_compressed:
            self._headers["content-encoding"] = "gzip"
        self._opener = _opener(settings)
        self._closed = threading.Event()

    def send(self, request: bytes, count: int) -> bool:
        settings = self._settings
        body = gzip.compress(request) if settings.is_compressed else request
        deadline = time.monotonic() + settings.timeout_seconds
        pauses = iter(_PAUSES_SECONDS)
        while True:
            failure, may_pass = self._post(body, deadline - time.monotonic())
            if not failure:
                return True
            pause = next(pauses, math.inf) * uniform(*_PAUSE_SHARES)
            if not may_pass or time.monotonic() + pause >= deadline or self._closed.wait(pause):
                log.warning("%d spans are lost: the collector at %s answered %s", count, settings.endpoint, failure)
                return False

    def shutdown(self) -> None:
        self._closed.set()

    def _post(self, body: bytes, seconds: float) -> tuple[str, bool]:
        """Return what went wrong, or an empty text, and whether it may pass."""
        request = Request(self._settings.endpoint, body, self._headers, method="POST")  # noqa: S310 - see TracingSettings
        try:
            with self._opener.open(request, timeout=max(seconds, 0.001)):
                return "", False
        except HTTPError as error:
            with error:
                return str(error.code), error.code in _PASSING
        except (OSError, HTTPException, ValueError) as error:
            return str(error) or type(error).__name__, isinstance(error, OSError)


def _opener(settings: TracingSettings) -> OpenerDirector:
    """Return what follows no redirects, which would make a GET of a POST, and opens no files."""
    opener = OpenerDirector()
    handlers: list[BaseHandler] = [ProxyHandler(), HTTPHandler(), HTTPErrorProcessor(), HTTPDefaultErrorHandler()]
    if settings.endpoint.startswith("https:"):
        handlers.append(HTTPSHandler(context=_context(settings)))
    for it in (*handlers, UnknownHandler()):
        opener.add_handler(it)
    return opener


def _context(settings: TracingSettings) -> SSLContext:
    roots = settings.certificate.decode("ascii", "replace") if settings.certificate is not None else None
    try:
        context = client_context(text=roots)
        if settings.client_chain:
            context.load_cert_chain(settings.client_chain, settings.client_key or None)
    except (OSError, ValueError) as error:
        raise InvalidTracing(f"a certificate for the collector at {settings.endpoint} is unusable: {error}") from error
    return context
