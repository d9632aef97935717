"""An authority that is asked over TLS with the method and messages of Istio's
(`istio.v1.auth.IstioCertificateService/CreateCertificate`), which are declared here once more, as a check."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2  # noqa: F401 - the pool's

from l4.identity.authority import AuthorityError, DevelopmentAuthority
from policies.attributes import Identity
from tests.kit.certificates import MeshPki
from tests.kit.grpc_server import grpc_server

METHOD = "istio.v1.auth.IstioCertificateService/CreateCertificate"


def _messages() -> tuple[Any, Any]:
    field_of = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/certificate_service.proto",
        package="istio.v1.auth",
        syntax="proto3",
        dependency=["google/protobuf/struct.proto"],
    )
    request = file.message_type.add(name="IstioCertificateRequest")
    request.field.add(name="csr", number=1, type=field_of.TYPE_STRING, label=field_of.LABEL_OPTIONAL)
    request.field.add(name="validity_duration", number=3, type=field_of.TYPE_INT64, label=field_of.LABEL_OPTIONAL)
    request.field.add(
        name="metadata",
        number=4,
        type=field_of.TYPE_MESSAGE,
        type_name=".google.protobuf.Struct",
        label=field_of.LABEL_OPTIONAL,
    )
    response = file.message_type.add(name="IstioCertificateResponse")
    response.field.add(name="cert_chain", number=1, type=field_of.TYPE_STRING, label=field_of.LABEL_REPEATED)
    pool = descriptor_pool.Default()
    pool.Add(file)  # type: ignore[attr-defined]
    named = ("istio.v1.auth.IstioCertificateRequest", "istio.v1.auth.IstioCertificateResponse")
    request_class, response_class = (message_factory.GetMessageClass(pool.FindMessageTypeByName(it)) for it in named)
    return request_class, response_class


Request, Response = _messages()


@dataclass
class CertificateService:
    """Signs for whoever the token names, or, if the token is a node's, for whom it impersonates."""

    address: str
    root: Path
    authority: DevelopmentAuthority
    signed: Counter[str] = field(default_factory=Counter)
    """By service account."""
    is_down: bool = False

    def answer(self, request: Any, context: Any) -> Any:
        token = dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer ")
        if self.is_down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the authority is at lunch")
        name = request.metadata["ImpersonatedIdentity"] if token == "node" else token
        identity = Identity.parse(name)
        try:
            signed = asyncio.run(self.authority.sign(identity, request.csr.encode()))
        except AuthorityError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self.signed[identity.service_account] += 1
        return Response(cert_chain=[signed.chain_pem.decode(), signed.trust_bundle_pem.decode()])


@contextmanager
def certificate_service(folder: Path, address: str, leaf_seconds: float) -> Iterator[CertificateService]:
    pki = MeshPki(folder / "server")
    pair = pki.leaf(ips=[address.rpartition(":")[0]])
    credentials = grpc.ssl_server_credentials([(pair.key_pem, pair.chain_pem)])
    service = CertificateService(address, pki.bundle_path, DevelopmentAuthority(folder / "ca", leaf_seconds))
    with grpc_server(address, METHOD, service.answer, Request, threading.Event(), credentials):
        yield service
