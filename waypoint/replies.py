"""Finish response heads of endpoints and of our own, and create responses for errors, with or without an exchange."""

import logging
import time
from email.utils import formatdate
from functools import lru_cache

from policies.attributes import ResponseHead
from policies.balancing.endpoint import Endpoint
from waypoint.admission.decide import UNDECIDED, Decision, edit_response
from waypoint.config.snapshot import UNKNOWN_SERVICE
from waypoint.data_path import Connection
from waypoint.errors import AttemptFailed, ExchangeError, UnwritableHead
from waypoint.http import grpc
from waypoint.telemetry.record import ExchangeRecord

log = logging.getLogger(__name__)

SERVER = b"istio-envoy"
_ALLOWED = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"


def refused(connection: Connection, error: ExchangeError) -> tuple[ResponseHead, bytes]:
    """Report and answer a request that could not be parsed."""
    path = connection.path
    snapshot = path.holder.current
    destination = snapshot.destination(connection.authority)
    record = ExchangeRecord(
        time.time(),
        connection.peer,
        connection.source(snapshot),
        connection.authority,
        UNKNOWN_SERVICE if destination is None else destination.service,
    )
    record.policy = destination.telemetry if destination is not None else None
    head, body = local_reply(error)
    finish(head, UNDECIDED)
    record.status = error.status
    record.flags = (error.flag,) if error.flag else ()
    record.detail = error.detail
    record.bytes_sent = len(body)
    path.telemetry.record(record)
    path.telemetry.count_refusal(error.limit)
    return head, body


def finish(head: ResponseHead, decision: Decision, endpoint: Endpoint | None = None) -> None:
    """Complete a response head, from an endpoint or our own: add the proxy's headers, then apply the rule's and
    policies' edits.

    The codec determines how the body ends.
    """
    headers = head.headers
    for name, _ in headers:
        if name == b"date":
            break
    else:
        headers.append((b"date", _http_date(int(time.time()))))  # RFC 9110 section 6.6.1
    headers.append((b"server", SERVER))
    edit_response(decision, head, endpoint)


def reply_to(error: ExchangeError, record: ExchangeRecord) -> tuple[ResponseHead, bytes]:
    """An error as the response to an exchange, which is noted in its report."""
    record.detail = error.detail
    record.upstream_transport_failure_reason = error.reason if isinstance(error, AttemptFailed) else ""
    if error.flag is not None:
        record.flags += (error.flag,)
    if isinstance(error, UnwritableHead):
        log.error("%s, by rule %s: %s", error.detail, record.route_name or "-", error.reason)
    head, body = local_reply(error)
    if record.is_grpc:
        head, body = grpc.reply(head, error.body, error.grpc_status), b""
        record.grpc_status = grpc.status_of(head.headers)
    return head, body


def local_reply(error: ExchangeError) -> tuple[ResponseHead, bytes]:
    """Return an error as an unfinished response: head and body."""
    body = error.body
    has_type = any(name == b"content-type" for name, _ in error.headers)
    headers = [(b"content-type", b"text/plain")] if body and not has_type else []
    if error.status == 405:
        headers.append((b"allow", _ALLOWED))  # RFC 9110 section 15.5.6
    return ResponseHead(error.status, [*headers, *error.headers]), body


@lru_cache(maxsize=1)
def _http_date(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode()
