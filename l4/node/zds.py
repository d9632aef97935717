"""The messages by which a node's agent announces pods to its ztunnel: Istio's `istio.workload.zds`, version 1.

The ztunnel says hello. Then the agent sends one request at a time, and the ztunnel acknowledges each. The first
requests are a snapshot of the node's pods.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from l4._proto import zds_pb2 as proto


class ProtocolError(Exception):
    """The peer broke the protocol; the connection has no use any more."""


@dataclass(frozen=True, slots=True)
class Add:
    """Serve a pod. The packet carries its network namespace."""

    uid: str
    name: str
    namespace: str
    account: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Go on serving a pod, whose namespace the agent does not have."""

    uid: str


@dataclass(frozen=True, slots=True)
class Delete:
    uid: str


@dataclass(frozen=True, slots=True)
class SnapshotSent:
    """All pods of the node have been announced: stop serving the others."""


Request = Add | Keep | Delete | SnapshotSent

HELLO = proto.ZdsHello(version=proto.V1).SerializeToString()


def check_hello(data: bytes) -> None:
    """Raises ProtocolError."""
    try:
        hello = proto.ZdsHello.FromString(data)
    except DecodeError:
        raise ProtocolError("the first packet is not a hello") from None
    if hello.version != proto.V1:
        raise ProtocolError(f"the ztunnel speaks version {hello.version}, not 1")


def encode_request(request: Request) -> bytes:
    match request:
        case Add(uid, name, namespace, account):
            info = proto.WorkloadInfo(name=name, namespace=namespace, service_account=account)
            message = proto.WorkloadRequest(add=proto.AddWorkload(uid=uid, workload_info=info))
        case Keep(uid):
            message = proto.WorkloadRequest(keep=proto.KeepWorkload(uid=uid))
        case Delete(uid):
            message = proto.WorkloadRequest()
            getattr(message, "del").uid = uid  # a keyword of Python
        case SnapshotSent():
            message = proto.WorkloadRequest(snapshot_sent=proto.SnapshotSent())
    return message.SerializeToString()


def decode_request(data: bytes, fds: Sequence[int]) -> Request:
    """Return the request of a packet that carried `fds`. Raises ProtocolError."""
    try:
        message = proto.WorkloadRequest.FromString(data)
    except DecodeError:
        raise ProtocolError("the packet is not a request") from None
    kind = message.WhichOneof("payload")
    if len(fds) != (kind == "add"):
        raise ProtocolError(f"a request {kind or 'without content'} carries {len(fds)} descriptors")
    match kind:
        case "add":
            if not message.add.HasField("workload_info"):
                raise ProtocolError("a request add has no workload_info")
            info = message.add.workload_info
            return Add(message.add.uid, info.name, info.namespace, info.service_account)
        case "keep":
            return Keep(message.keep.uid)
        case "del":
            return Delete(getattr(message, "del").uid)
        case "snapshot_sent":
            return SnapshotSent()
    raise ProtocolError("a request has no content")


def encode_ack(error: str = "") -> bytes:
    return proto.WorkloadResponse(ack=proto.Ack(error=error)).SerializeToString()


def decode_ack(data: bytes) -> str:
    """Return the error that the ztunnel reports, or an empty text. Raises ProtocolError."""
    try:
        message = proto.WorkloadResponse.FromString(data)
    except DecodeError:
        raise ProtocolError("the packet is not a response") from None
    if message.WhichOneof("payload") != "ack":
        raise ProtocolError("a response is not an acknowledgement")
    return message.ack.error
