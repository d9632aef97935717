"""The files that TLS towards outside is made of: followed, and never lost."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from policies.upstream_tls import UpstreamTls
from tests.kit.aio import run
from tests.kit.certificates import HOUR, MeshPki
from tests.kit.mesh import address, settled
from waypoint.upstream import tls as module
from waypoint.upstream.tls import InvalidTls, TlsContexts

HOST = "api.example.com"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)


@asynccontextmanager
async def watched(contexts: TlsContexts) -> AsyncIterator[list[str]]:
    """What it is concerned about, the latest at the end."""
    concerns: list[str] = []
    task = asyncio.get_running_loop().create_task(contexts.watch(concerns.append))
    try:
        yield concerns
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def serving(pki: MeshPki, client_root: Path | None = None) -> AsyncIterator[str]:
    """A TLS server with a certificate of this authority, that takes clients of the other one."""
    pair, ip, file = pki.leaf(dns=[HOST]), address(), pki.folder / "server.pem"
    file.write_bytes(pair.chain_pem + pair.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_root)
    context.load_cert_chain(file)
    if client_root is not None:
        context.verify_mode = ssl.CERT_REQUIRED

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(greet, ip, 9443, ssl=context)
    try:
        yield ip
    finally:
        server.close()


async def greeted(contexts: TlsContexts, tls: UpstreamTls, ip: str) -> bool:
    context = await contexts.get(tls)
    try:
        reader, writer = await asyncio.open_connection(ip, 9443, ssl=context, server_hostname=HOST)
        answer = await reader.read(5)
        writer.close()
    except (ssl.SSLError, ConnectionError):
        return False
    return answer == b"hello"


async def until_greeted(contexts: TlsContexts, tls: UpstreamTls, ip: str) -> None:
    async with asyncio.timeout(20):
        while not await greeted(contexts, tls, ip):  # noqa: ASYNC110 - the files are looked at by a clock
            await asyncio.sleep(0.02)


def test_rotated_roots_are_followed(tmp_path: Path) -> None:
    async def scenario() -> None:
        old, new = MeshPki(tmp_path / "old"), MeshPki(tmp_path / "new")
        roots = tmp_path / "roots.pem"
        roots.write_bytes(old.root_pem)
        contexts, tls = TlsContexts(), UpstreamTls(HOST, ca_certificates=str(roots))
        async with serving(new) as ip, watched(contexts):
            before = await greeted(contexts, tls, ip)

            roots.write_bytes(old.root_pem + new.root_pem)

            assert not before
            await until_greeted(contexts, tls, ip)

    run(scenario())


def test_a_rotated_client_certificate_is_followed_though_its_key_comes_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        old, new = MeshPki(tmp_path / "old"), MeshPki(tmp_path / "new")
        chain, key = tmp_path / "client.pem", tmp_path / "client.key"
        first, second = old.leaf(["spiffe://a"]), new.leaf(["spiffe://a"])
        chain.write_bytes(first.chain_pem)
        key.write_bytes(first.key_pem)
        tls = UpstreamTls(HOST, (), str(new.bundle_path), str(chain), str(key))
        contexts = TlsContexts()
        async with (
            serving(new, old.bundle_path) as ip,
            serving(new, new.bundle_path) as ip_after,
            watched(contexts) as concerns,
        ):
            assert await greeted(contexts, tls, ip)

            chain.write_bytes(second.chain_pem)
            await settled(lambda: bool(concerns) and "those loaded before stay in use" in concerns[-1])
            assert await greeted(contexts, tls, ip)
            key.write_bytes(second.key_pem)
            await until_greeted(contexts, tls, ip_after)
            await settled(lambda: concerns[-1] == "")

    run(scenario())

    assert sum("stay in use" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("harm", ["gone", "empty", "garbage"])
def test_what_was_loaded_stays_in_use_while_the_file_can_not_be(tmp_path: Path, harm: str) -> None:
    async def scenario() -> None:
        pki = MeshPki(tmp_path / "pki")
        roots = tmp_path / "roots.pem"
        roots.write_bytes(pki.root_pem)
        contexts, tls = TlsContexts(), UpstreamTls(HOST, ca_certificates=str(roots))
        async with serving(pki) as ip, watched(contexts) as concerns:
            assert await greeted(contexts, tls, ip)

            if harm == "gone":
                roots.unlink()
            else:
                roots.write_bytes(b"" if harm == "empty" else b"garbage")
            await settled(lambda: f"{roots} cannot be used for TLS to {HOST}" in concerns[-1] if concerns else False)
            during = await greeted(contexts, tls, ip)
            roots.write_bytes(pki.root_pem)
            await settled(lambda: concerns[-1] == "")

            assert during

    run(scenario())


def test_what_no_configuration_names_any_more_is_no_concern(tmp_path: Path) -> None:
    async def scenario() -> None:
        contexts, tls = TlsContexts(), UpstreamTls(HOST, ca_certificates=str(tmp_path / "nowhere.pem"))
        async with watched(contexts) as concerns:
            with pytest.raises(InvalidTls):
                await contexts.get(tls)
            await settled(lambda: bool(concerns) and "nowhere.pem" in concerns[-1])

            contexts.keep(())

            await settled(lambda: concerns[-1] == "")

    run(scenario())


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        pki = MeshPki(tmp_path / "pki")
        pair = pki.leaf(["spiffe://a"])
        key = load_pem_private_key(pair.key_pem, None)
        (tmp_path / "client.pem").write_bytes(pair.chain_pem)
        (tmp_path / "client.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        )
        files = str(tmp_path / "client.pem"), str(tmp_path / "client.key")

        with pytest.raises(InvalidTls, match=r"client\.key cannot be used"):
            await TlsContexts().get(UpstreamTls(HOST, (), str(pki.bundle_path), *files))

    run(scenario())


def test_a_client_certificate_is_shown_to_nobody_after_it_expired_and_an_expired_one_replaces_none(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        pki, now = MeshPki(tmp_path), time.time()
        chain, key = tmp_path / "client.pem", tmp_path / "client.key"
        good, late = pki.leaf(["spiffe://a"]), pki.leaf(["spiffe://a"], starts=-2 * HOUR, ends=-HOUR)
        chain.write_bytes(good.chain_pem)
        key.write_bytes(good.key_pem)
        tls = UpstreamTls(HOST, (), str(pki.bundle_path), str(chain), str(key))
        contexts = TlsContexts(lambda: now)
        async with watched(contexts) as concerns:
            before = await contexts.get(tls)
            key.write_bytes(late.key_pem)
            chain.write_bytes(late.chain_pem)
            await settled(lambda: "expired; issue a new one; those loaded before stay in use" in "".join(concerns[-1:]))
            assert await contexts.get(tls) is before

            now += HOUR.total_seconds()
            with pytest.raises(InvalidTls, match=r"client\.pem, the client certificate .* expired"):
                await contexts.get(tls)

            renewed = pki.leaf(["spiffe://a"], ends=3 * HOUR)
            key.write_bytes(renewed.key_pem)
            chain.write_bytes(renewed.chain_pem)
            await settled(lambda: concerns[-1] == "")
            assert await contexts.get(tls) is not before

    run(scenario())
