"""Prepare a request before any decision: begin its report, and add standard headers."""

from binascii import hexlify
from collections.abc import Callable, Mapping
from os import urandom
from struct import Struct
from time import time, time_ns
from typing import TYPE_CHECKING

from policies.attributes import Headers, RequestHead
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination, Snapshot
from waypoint.data_path import Connection
from waypoint.http.grpc import is_grpc
from waypoint.telemetry.record import ExchangeRecord

if TYPE_CHECKING:
    from waypoint.telemetry.spans import Tracer

_UUID = Struct("8s4s4s4s12s")
"""The hexadecimal digits of a UUID."""
_IDS_AT_ONCE = 64
"""As each call of the kernel costs more than the bytes that it returns."""
_RANDOM = int.from_bytes(bytes.fromhex("ffffffff ffff 0fff 3fff ffffffffffff") * _IDS_AT_ONCE)
"""The random bits of these UUIDs."""
_FIXED = int.from_bytes(bytes.fromhex("00000000 0000 4000 8000 000000000000") * _IDS_AT_ONCE)
"""Their versions and variants."""
_request_ids: list[bytes] = []


def arrive(
    connection: Connection, head: RequestHead, protocol: str, snapshot: Snapshot, destination: Destination | None
) -> ExchangeRecord:
    """Begin the report, and add the headers that every application gets."""
    record = ExchangeRecord(
        time(),
        connection.peer,
        connection.source(snapshot),
        connection.authority,
        UNKNOWN_SERVICE if destination is None else destination.service,
    )
    if destination is not None:
        record.policy = destination.telemetry
    headers = record.headers = head.headers
    fields: dict[bytes, bytes] = dict(headers) if head.repeated is None else head.repeated.by_name
    record.request_id = complete(headers, fields, new_request_id)
    record.method = head.method
    record.original_target = head.target
    record.protocol = protocol
    record.authority = head.authority
    record.user_agent = fields.get(b"user-agent")
    record.x_forwarded_for = fields.get(b"x-forwarded-for")
    if is_grpc(fields.get(b"content-type")):
        record.is_grpc = True
        connection.path.telemetry.begin_messages(record)
    rule = record.policy.tracing if record.policy is not None else None
    tracer: Tracer | None = connection.path.tracer
    if rule is not None and rule.collector is not None:
        tracer = connection.path.collectors.get(rule.collector)
    if tracer is not None:
        record.span = tracer.begin(headers, fields, time_ns(), rule)
    if snapshot.tells_client:
        _tell_client(connection, head)
    if destination is not None and destination.authentication is not None:
        record.original_target = destination.authentication.concealed(head)
    return record


def complete(headers: Headers, fields: Mapping[bytes, bytes], new_request_id: Callable[[], bytes]) -> bytes:
    """Add the headers that every application gets, and that rules may match on. Returns the request's id.

    `fields` are the headers by name.
    """
    request_id = fields.get(b"x-request-id")
    if request_id is None:
        request_id = new_request_id()
        headers.append((b"x-request-id", request_id))
    if b"x-forwarded-proto" not in fields:
        headers.append((b"x-forwarded-proto", b"http"))
    return request_id


def _tell_client(connection: Connection, head: RequestHead) -> None:
    """Add the client's identity; what the client itself sent has been removed."""
    identity = connection.peer.identity
    if identity is not None:
        text = f"By={connection.path.originator.identity};URI={identity}"
        head.headers.append((b"x-forwarded-client-cert", text.encode()))


def new_request_id() -> bytes:
    """Return a random UUID (RFC 9562 version 4). `uuid.uuid4` takes six times as long."""
    if not _request_ids:
        size = _UUID.size // 2 * _IDS_AT_ONCE
        all_of_them = int.from_bytes(urandom(size)) & _RANDOM | _FIXED
        _request_ids.extend(map(b"-".join, _UUID.iter_unpack(hexlify(all_of_them.to_bytes(size)))))
    return _request_ids.pop()
