import asyncio
import stat
from pathlib import Path

import pytest
from cryptography import x509

from l4.identity.authority import AuthorityError, DevelopmentAuthority, certificate_request
from l4.identity.files import FolderStore, load
from l4.identity.source import WorkloadCertificate
from policies.attributes import Identity
from tests.kit.aio import run

REVIEWS = Identity("cluster.local", "bookinfo", "reviews")
RATINGS = Identity("cluster.local", "bookinfo", "ratings")


@pytest.fixture
def authority(tmp_path: Path) -> DevelopmentAuthority:
    return DevelopmentAuthority(tmp_path / "ca")


def test_written_pairs_are_what_a_folder_store_reads(tmp_path: Path, authority: DevelopmentAuthority) -> None:
    authority.write(REVIEWS, tmp_path)

    certificate = FolderStore(tmp_path, authority.bundle_path).get(REVIEWS)

    assert certificate.identity == REVIEWS


def test_workloads_with_its_certificates_trust_each_other(tmp_path: Path, authority: DevelopmentAuthority) -> None:
    for identity in (REVIEWS, RATINGS):
        authority.write(identity, tmp_path)
    store = FolderStore(tmp_path, authority.bundle_path)

    async def scenario() -> str:
        greeted = asyncio.get_running_loop().create_future()

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            greeted.set_result(await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=store.get(REVIEWS).server_context)
        async with server:
            context = store.get(RATINGS).client_context
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=context, server_hostname="")
            writer.write(b"hello\n")
            line: bytes = await greeted
            writer.close()
            await writer.wait_closed()
        return line.decode()

    assert run(scenario()) == "hello\n"


def test_keys_are_readable_by_their_owner_only(tmp_path: Path, authority: DevelopmentAuthority) -> None:
    chain = authority.write(REVIEWS, tmp_path)

    for key in (chain.with_suffix(".key"), tmp_path / "ca" / "root.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bookinfo.reviews.key", "bookinfo.reviews.pem", "ca"]


def test_the_root_outlives_the_process(tmp_path: Path, authority: DevelopmentAuthority) -> None:
    before = authority.bundle_path.read_bytes()

    again = DevelopmentAuthority(tmp_path / "ca")

    assert again.bundle_path.read_bytes() == before
    root = x509.load_pem_x509_certificate(before)
    x509.load_pem_x509_certificate(again.issue(REVIEWS)[0]).verify_directly_issued_by(root)


def test_a_folder_with_a_foreign_key_is_refused(tmp_path: Path, authority: DevelopmentAuthority) -> None:
    other = DevelopmentAuthority(tmp_path / "other")
    (other.bundle_path.parent / "root.key").replace(tmp_path / "ca" / "root.key")

    with pytest.raises(AuthorityError, match="delete both to create a new root"):
        DevelopmentAuthority(tmp_path / "ca")


def test_a_certificate_is_as_short_lived_as_asked(tmp_path: Path, authority: DevelopmentAuthority) -> None:
    chain = authority.write(REVIEWS, tmp_path, valid_seconds=60)

    loaded = load(chain, chain.with_suffix(".key"), authority.bundle_path)

    now = loaded.not_before.timestamp() + 120
    assert 59 <= WorkloadCertificate(loaded).seconds_left(now) <= 61


def test_a_request_has_an_empty_subject_and_one_critical_uri() -> None:
    _, csr_pem = certificate_request(REVIEWS)

    request = x509.load_pem_x509_csr(csr_pem)

    assert len(request.subject) == 0
    (extension,) = request.extensions
    assert extension.critical
    assert extension.value == x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(REVIEWS))])


def test_a_request_is_signed_for_the_identity_it_names(tmp_path: Path, authority: DevelopmentAuthority) -> None:
    key, csr_pem = certificate_request(REVIEWS)

    signed = run(authority.sign(REVIEWS, csr_pem))

    paths = [tmp_path / name for name in ("chain.pem", "key.pem", "root.pem")]
    for path, content in zip(paths, (signed.chain_pem, key.pem, signed.trust_bundle_pem), strict=True):
        path.write_bytes(content)
    assert load(*paths).identity == REVIEWS


def test_a_request_for_somebody_else_is_refused(authority: DevelopmentAuthority) -> None:
    _, csr_pem = certificate_request(RATINGS)

    with pytest.raises(AuthorityError, match="name exactly that identity"):
        run(authority.sign(REVIEWS, csr_pem))


def test_an_unreadable_request_is_refused(authority: DevelopmentAuthority) -> None:
    with pytest.raises(AuthorityError, match="cannot be read"):
        run(authority.sign(REVIEWS, b"nonsense"))
