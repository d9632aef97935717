"""Lists of revoked certificates: read whole or not at all."""

from pathlib import Path

import pytest

from l4.identity.certificate import InvalidCertificate
from l4.identity.revocation import Revocations
from tests.kit.certificates import MeshPki

NAME = "spiffe://cluster.local/ns/default/sa/client"


def test_a_certificate_is_revoked_by_its_own_authority_alone(tmp_path: Path) -> None:
    pki, other = MeshPki(tmp_path / "a"), MeshPki(tmp_path / "b")
    bad, good, foreign = pki.leaf([NAME]), pki.leaf([NAME]), other.leaf([NAME])

    revocations = Revocations.load(pki.revoke(bad, foreign))

    assert [revocations.has(it.der) for it in (bad, good, foreign)] == [True, False, False]


def test_one_file_may_hold_the_lists_of_several_authorities(tmp_path: Path) -> None:
    pkis = MeshPki(tmp_path / "a"), MeshPki(tmp_path / "b")
    pairs = [pki.leaf([NAME]) for pki in pkis]
    file = tmp_path / "revoked.pem"
    file.write_bytes(b"\n".join(pki.revoke(pair).read_bytes() for pki, pair in zip(pkis, pairs, strict=True)))

    revocations = Revocations.load(file)

    assert all(revocations.has(pair.der) for pair in pairs)


@pytest.mark.parametrize("text", ["", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_what_is_no_list_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "revoked.pem"
    file.write_text(text)

    for path in (file, tmp_path / "missing.pem"):
        with pytest.raises(InvalidCertificate, match=path.name):
            Revocations.load(path)
