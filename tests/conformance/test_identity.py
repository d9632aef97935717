"""Admission by client certificate: every kind of certificate in a real handshake, and no HTTP for refused clients."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from l4.hbone.errors import TunnelReset
from tests.kit.aio import run
from tests.kit.certificates import HOUR, MeshPki, Pair
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import answering, origin

NAME = "spiffe://cluster.local/ns/default/sa/client"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])

Make = Callable[[MeshPki], Pair | None]
ACCEPTED: dict[str, Make] = {
    "good": lambda pki: pki.leaf([NAME]),
    "no stated usages": lambda pki: pki.leaf([NAME], usages=None),
}
REFUSED: dict[str, Make] = {
    "expired": lambda pki: pki.leaf([NAME], starts=-2 * HOUR, ends=-HOUR),
    "not yet valid": lambda pki: pki.leaf([NAME], starts=HOUR, ends=2 * HOUR),
    "of another authority": lambda pki: MeshPki(pki.folder / "other").leaf([NAME]),
    "none": lambda pki: None,
    "no name": lambda pki: pki.leaf(),
    "a DNS name alone": lambda pki: pki.leaf(dns=["client.default"]),
    "another trust domain": lambda pki: pki.leaf(["spiffe://evil.local/ns/default/sa/client"]),
    "two names": lambda pki: pki.leaf([NAME, f"{NAME}-2"]),
    "a name of four parts": lambda pki: pki.leaf(["spiffe://cluster.local/ns/default/sa"]),
    "for servers only": lambda pki: pki.leaf([NAME], usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
    "an authority's": lambda pki: pki.leaf([NAME], is_authority=True),
    "no signatures": lambda pki: pki.leaf([NAME], digital_signature=False),
}


def text(waypoint: str, vip: str, pod: str) -> str:
    """One service, whose pod is outside of the mesh."""
    plain = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
    return plain.replace("ambient.istio.io/redirection: enabled", "")


async def answer_to(it: Mesh, pair: Pair | None) -> bytes:
    """What a client with this certificate gets that speaks HTTP/2 at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=it.pki.root_pem.decode())
    context.set_alpn_protocols(["h2"])
    if pair is not None:
        file = it.pki.folder / "stranger.pem"
        file.write_bytes(pair.chain_pem + pair.key_pem)
        context.load_cert_chain(file)
    reader, writer = await asyncio.open_connection(it.waypoint, 15008, ssl=context, server_hostname="")
    try:
        writer.write(PREFACE)
        async with asyncio.timeout(5):
            return await reader.read(9)
    except (ssl.SSLError, ConnectionError):
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("kind", [*ACCEPTED, *REFUSED])
def test_only_certificates_that_prove_an_identity_of_the_mesh_get_an_answer(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        waypoint = address()
        async with mesh(tmp_path, text(waypoint, address(), address()), waypoint) as it:
            make = ACCEPTED.get(kind) or REFUSED[kind]

            answer = await answer_to(it, make(it.pki))

            assert bool(answer) == (kind in ACCEPTED)
            await settled(lambda: it.server.connection_count == 0)

    run(scenario())


def test_who_is_revoked_is_refused_and_loses_the_connections_there_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        waypoint, vip, pod = address(), address(), address()
        async with (
            origin(pod, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
            mesh(tmp_path, text(waypoint, vip, pod), waypoint, has_revocations=True) as it,
        ):
            good, bad = it.pki.leaf([NAME]), it.pki.leaf([NAME])
            assert await answer_to(it, bad)
            reader, writer = await it.tunnel(f"{vip}:9080")
            other, _ = await it.tunnel(f"{vip}:9080", account="other")
            connected = it.pki.certificate(it.pki.identity("default", "client")).certificate

            it.pki.revoke(bad, Pair(connected.chain_pem, b""))
            await it.certificates.refresh()

            assert await answer_to(it, bad) == b""
            assert await answer_to(it, good)
            with pytest.raises(TunnelReset):
                await reader.readexactly(1)
            assert not other.at_eof()
            writer.close()

    run(scenario())


def test_a_server_that_is_revoked_gets_no_request_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        waypoint, vip, pod = address(), address(), address()
        manifest = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
        async with (
            origin(pod, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as seen,
            mesh(tmp_path, manifest, waypoint, has_revocations=True) as it,
        ):
            assert (await it.get(f"{vip}:9080")).startswith(b"HTTP/1.1 200")
            revoked = it.pki.certificate(it.pki.identity("default", "app")).certificate

            it.pki.revoke(Pair(revoked.chain_pem, b""))
            await it.certificates.refresh()
            answer = await it.get(f"{vip}:9080")

            assert answer.startswith(b"HTTP/1.1 503")
            assert len(seen.heads) == 1
            assert b'pywaypoint_refused_total{reason="revoked_peer"} 1' in it.metrics.render("")[0]

    run(scenario())
